"""What a host is called and where it listens: chosen at the first `up`, kept in the store ever after."""

import ipaddress
import json
import socket
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from ipaddress import IPv4Interface, IPv6Interface

from bastide.base.errors import InvalidParameter
from bastide.model.types import is_dns_name
from bastide.state.store import ABSENT, Store

_KEY = "setting/node"
DEFAULT_PORT = 8006
DEFAULT_BRIDGE = "vmbr0"


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line asked for; None leaves a setting as it is."""

    node: str | None = None
    port: int | None = None
    bridge: str | None = None
    listen: str | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """The host's settings. `ipv4` and `ipv6` are the managed bridge's own addresses with their prefixes."""

    node: str
    port: int
    bridge: str
    listen: str
    ipv4: str
    ipv6: str


async def load(
    store: Store, asked: Asked, choose: Callable[[], Awaitable[tuple[IPv4Interface, IPv6Interface]]]
) -> Settings:
    """The stored settings with what was asked; made at the first call, `choose` then picks the bridge's subnets.

    Raises InvalidParameter when something is asked that cannot change any more (the node's name, the bridge).
    """
    entry = await store.get(_KEY)
    if entry is None:
        return await _first(store, asked, choose)
    settings = Settings(**json.loads(entry.value))
    for field in ("node", "bridge"):
        wanted = getattr(asked, field)
        if wanted is not None and wanted != getattr(settings, field):
            raise InvalidParameter(
                {field: f"this host was set up with '{getattr(settings, field)}'; `down --purge` first to change it"}
            )
    changed = Settings(
        **{**asdict(settings), **{k: v for k, v in asdict(asked).items() if v is not None and k in ("port", "listen")}}
    )
    if changed != settings:
        await store.put(_KEY, json.dumps(asdict(changed)), entry.revision)
    return changed


async def _first(
    store: Store, asked: Asked, choose: Callable[[], Awaitable[tuple[IPv4Interface, IPv6Interface]]]
) -> Settings:
    node = asked.node or _default_node()
    if not is_dns_name(node) or "." in node:
        raise InvalidParameter({"node": f"'{node}' is not a node name: use letters, digits and hyphens"})
    listen = asked.listen or "::"
    try:
        ipaddress.ip_address(listen)
    except ValueError:
        raise InvalidParameter({"listen": f"'{listen}' is not an IP address"}) from None
    ipv4, ipv6 = await choose()
    settings = Settings(
        node=node,
        port=asked.port or DEFAULT_PORT,
        bridge=asked.bridge or DEFAULT_BRIDGE,
        listen=listen,
        ipv4=str(ipv4),
        ipv6=str(ipv6),
    )
    await store.put(_KEY, json.dumps(asdict(settings)), ABSENT)
    return settings


def _default_node() -> str:
    name = socket.gethostname().partition(".")[0]
    return name if is_dns_name(name) and name != "localhost" else "bastide"
