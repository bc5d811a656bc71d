"""Hardware addresses of a container's interfaces."""

from bastide.model.container import ContainerConfig, ContainerOptions
from bastide.operations.interfaces import random_hwaddr


def with_hardware_addresses(options: ContainerOptions, before: ContainerConfig | None = None) -> ContainerOptions:
    """The options with an address for every interface: its earlier one, or a new one."""
    nics = {}
    for index, nic in options.net.items():
        known = before.net.get(index) if before else None
        address = nic.hwaddr or (known.hwaddr if known else None) or random_hwaddr()
        nics[index] = nic.model_copy(update={"hwaddr": address, "type": "veth"})
    return options.model_copy(update={"net": nics})
