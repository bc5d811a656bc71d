"""A VM's network cards: their hardware addresses, and what the network room is told of them."""

from bastide.host import links
from bastide.model.vm import VmConfig, VmOptions
from bastide.model.vm_devices import IpConfig, VmInterface
from bastide.network.protocol import Port, VmPort
from bastide.operations.interfaces import random_hwaddr

_AS_BRIDGE = 1
"""The `mtu` that asks for the bridge's."""


def with_hardware_addresses(options: VmOptions, before: VmConfig | None = None) -> VmOptions:
    """The options with an address for every card: its earlier one, or a new one."""
    nics = {}
    for index, nic in options.net.items():
        known = before.net.get(index) if before else None
        address = nic.macaddr or (known.macaddr if known else None) or random_hwaddr()
        nics[index] = nic.model_copy(update={"macaddr": address})
    return options.model_copy(update={"net": nics})


def ports(config: VmOptions) -> dict[int, Port]:
    """The cards as the network sees them, with the addresses that cloud-init gives to the guest."""
    return {index: port(nic, config.ipconfig.get(index)) for index, nic in config.net.items()}


def port(nic: VmInterface, addresses: IpConfig | None = None) -> VmPort:
    """One card as the network sees it."""
    return VmPort(
        hwaddr=nic.macaddr,
        bridge=nic.bridge,
        tag=nic.tag,
        trunks=nic.trunks,
        rate=nic.rate,
        mtu=mtu(nic),
        link_down=nic.link_down,
        firewall=nic.firewall,
        ip=addresses.ip if addresses else None,
        ip6=addresses.ip6 if addresses else None,
    )


def mtu(nic: VmInterface) -> int | None:
    """The MTU that a card's options mean."""
    if nic.mtu == _AS_BRIDGE:
        return links.mtu(nic.bridge) if nic.bridge and links.exists(nic.bridge) else None
    return nic.mtu
