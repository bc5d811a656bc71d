"""Network interfaces in a configuration: hardware addresses for new ones, and whether the host can serve them."""

import secrets

from bastide.base.errors import InvalidParameter
from bastide.model.container import ContainerConfig, ContainerOptions
from bastide.operations.rooms import Rooms


def random_hwaddr() -> str:
    """A random locally administered unicast address (IEEE 802: bit 1 of the first octet set, bit 0 clear)."""
    octets = bytearray(secrets.token_bytes(6))
    octets[0] = (octets[0] | 0x02) & 0xFE
    return ":".join(f"{octet:02X}" for octet in octets)


def with_hardware_addresses(options: ContainerOptions, before: ContainerConfig | None = None) -> ContainerOptions:
    """The options with an address for every interface: its earlier one, or a new one."""
    nics = {}
    for index, nic in options.net.items():
        known = before.net.get(index) if before else None
        address = nic.hwaddr or (known.hwaddr if known else None) or random_hwaddr()
        nics[index] = nic.model_copy(update={"hwaddr": address, "type": "veth"})
    return options.model_copy(update={"net": nics})


async def check_interfaces(rooms: Rooms, options: ContainerOptions) -> None:
    """Raise InvalidParameter naming every `net<n>` that this host cannot serve."""
    errors = {}
    for index, nic in options.net.items():
        try:
            await rooms.network.check(nic)
        except InvalidParameter as error:
            errors[f"net{index}"] = "; ".join(error.errors.values())
    if errors:
        raise InvalidParameter(errors)
