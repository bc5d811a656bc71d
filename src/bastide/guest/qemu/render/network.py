"""Network cards: the backend on a tap that QEMU was handed, and the card that the guest sees.

Source: QEMU's manual (-netdev tap), hw/net/virtio-net.c for queues and vectors; qm.conf(5), `net[n]`.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from bastide.guest.qemu.launch import Need
from bastide.guest.qemu.render.base import Properties, invalid, uses_kvm
from bastide.guest.qemu.render.pci import address
from bastide.guest.vm_protocol import VmPlan
from bastide.host.qemu_facts import HostFacts
from bastide.model.vm_devices import VmInterface

_DRIVERS: Mapping[str, str] = MappingProxyType({"virtio": "virtio-net-pci", "e1000-82540em": "e1000"})
_EXPRESS = frozenset({"virtio", "e1000e", "vmxnet3"})
_RECEIVE_RING, _SEND_RING = 1024, 256


def nic_needs(plan: VmPlan, host: HostFacts, index: int) -> list[Need]:
    """The descriptors of `net<index>`: a tap, named as the card, and vhost's, `vhost-net<index>`."""
    count = _queues(plan.config.net[index])
    needs = [Need(f"net{index}", "tap", interface=plan.taps[index], count=count)]
    # Without KVM the kernel cannot tell a guest of packets, and vhost gives up at the guest's first use of it.
    if host.vhost_net and uses_kvm(plan, host) and plan.config.net[index].model == "virtio":
        needs.append(Need(f"vhost-net{index}", "vhost", count=count))
    return needs


def nic_netdev(plan: VmPlan, index: int, fds: Sequence[int | str], vhost: Sequence[int | str] = ()) -> Properties:
    """The backend `hostnet<index>` for netdev_add; descriptors by number, or by their names after `getfd`."""
    backend: Properties = {"type": "tap", "id": f"hostnet{index}"}
    several = _queues(plan.config.net[index]) > 1
    backend |= {"fds": _joined(fds)} if several else {"fd": str(fds[0])}
    if vhost:
        backend |= {"vhost": True} | ({"vhostfds": _joined(vhost)} if several else {"vhostfd": str(vhost[0])})
    return backend


def nic_device(plan: VmPlan, index: int, place: int | None = None) -> Properties:
    """The card `net<index>` for device_add. `place` is its place in the boot order, None when it is not in it."""
    options = plan.config.net[index]
    device: Properties = {
        "driver": _DRIVERS.get(options.model, options.model),
        "id": f"net{index}",
        "netdev": f"hostnet{index}",
    }
    if options.macaddr is not None:
        device["mac"] = options.macaddr
    if options.model != "ne2k_isa":
        device |= address(plan, f"net{index}", express=options.model in _EXPRESS)
        if place is None:
            device["romfile"] = ""  # nothing boots from it: the firmware need not load code for that
    if place is not None:
        device["bootindex"] = place
    if options.model == "virtio":
        device |= _virtio(plan, index, options)
    elif options.mtu is not None:
        raise invalid(f"net{index}", "mtu: only virtio cards tell the guest of it")
    return device


def _virtio(plan: VmPlan, index: int, options: VmInterface) -> Properties:
    found: Properties = {"rx_queue_size": _RECEIVE_RING, "tx_queue_size": _SEND_RING}
    queues = _queues(options)
    if queues > 1:
        # A vector for each direction of each queue, one for control and one for configuration.
        found |= {"mq": True, "vectors": 2 * queues + 2}
    mtu = plan.bridge_mtu.get(index) if options.mtu == 1 else options.mtu
    return {**found, "host_mtu": mtu} if mtu is not None else found


def _queues(options: VmInterface) -> int:
    return max(options.queues or 1, 1) if options.model == "virtio" else 1


def _joined(fds: Sequence[int | str]) -> str:
    return ":".join(str(fd) for fd in fds)
