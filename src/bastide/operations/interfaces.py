"""Network interfaces of both kinds of guest: hardware addresses for new ones, and whether the host can serve them."""

import secrets
from collections.abc import Mapping

from bastide.base.errors import InvalidParameter
from bastide.network.protocol import Port
from bastide.operations.rooms import Rooms


def random_hwaddr() -> str:
    """A random locally administered unicast address (IEEE 802: bit 1 of the first octet set, bit 0 clear)."""
    octets = bytearray(secrets.token_bytes(6))
    octets[0] = (octets[0] | 0x02) & 0xFE
    return ":".join(f"{octet:02X}" for octet in octets)


async def check_interfaces(rooms: Rooms, ports: Mapping[int, Port]) -> None:
    """Raise InvalidParameter naming every `net<n>` that this host cannot serve."""
    errors = {}
    for index, port in ports.items():
        try:
            await rooms.network.check(port)
        except InvalidParameter as error:
            errors[f"net{index}"] = "; ".join(error.errors.values())
    if errors:
        raise InvalidParameter(errors)
