"""The managed bridge's nftables rules, as text; pure.

Everything stands in tables that carry the instance's name, so that removing the tables leaves no trace. A table of
ours can neither open what another table drops nor does it close anything that was open before it came.
"""

import re
from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network

from bastide.base.errors import InvalidParameter

_INTERFACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@:-]{0,14}", re.ASCII)
_TABLE = re.compile(r"[a-z][a-z0-9-]{0,62}", re.ASCII)
_CHAIN = re.compile(r"rate-[A-Za-z0-9_]{1,60}", re.ASCII)
_BURST = 64 * 1024


def interface_word(name: str) -> str:
    """An interface's name as a quoted word of a rule. Raises InvalidParameter when it cannot stand in one."""
    if _INTERFACE.fullmatch(name) is None:
        raise InvalidParameter({"interface": f"'{name[:40]!r}' cannot stand in a firewall rule"})
    return f'"{name}"'


def table_word(name: str) -> str:
    """A table's name as a word of a rule. Raises InvalidParameter when it is not an instance's."""
    if _TABLE.fullmatch(name) is None:
        raise InvalidParameter({"instance": f"'{name[:80]!r}' cannot name an nftables table"})
    return name


def _chain(name: str) -> str:
    if _CHAIN.fullmatch(name) is None:
        raise InvalidParameter({"chain": f"'{name[:80]!r}' is no chain of ours"})
    return name


def render_nat(
    table: str,
    bridge: str,
    ipv4: IPv4Network,
    ipv6: IPv6Network,
    *,
    guarded4: Sequence[str] = (),
    guarded6: Sequence[str] = (),
) -> str:
    """The rule set that replaces the instance's table `inet <table>` in one transaction.

    Guests' packets that leave by another interface take the host's address. `guarded4` and `guarded6` name the
    interfaces on which forwarding was off until the bridge needed it for the guests' answers: nothing new may come
    in through them that the host did not forward before, only answers and what a rule directs inwards (DNAT).
    Raises InvalidParameter when a name cannot stand in a rule.
    """
    name, inner = table_word(table), interface_word(bridge)
    guards = [
        f"\t\tiifname {interface_word(outer)} oifname != {interface_word(outer)} meta nfproto {family} drop"
        for family, outers in (("ipv4", guarded4), ("ipv6", guarded6))
        for outer in sorted(set(outers))
    ]
    lines = [
        f"table inet {name} {{",
        "}",
        f"delete table inet {name}",
        f"table inet {name} {{",
        "\tchain postrouting {",
        "\t\ttype nat hook postrouting priority srcnat; policy accept;",
        f"\t\toifname != {inner} ip saddr {ipv4} ip daddr != {ipv4} masquerade",
        f"\t\toifname != {inner} ip6 saddr {ipv6} ip6 daddr != {ipv6} masquerade",
        "\t}",
        "",
        "\tchain forward {",
        "\t\ttype filter hook forward priority filter; policy accept;",
        *(["\t\tct state established,related accept", "\t\tct status dnat accept"] if guards else []),
        *guards,
        "\t}",
        "}",
    ]
    return "\n".join(lines) + "\n"


def rate_chain(interface: str) -> str:
    """Name of the chain that limits an interface; different names have different chains."""
    return "rate-" + re.sub(r"[^A-Za-z0-9]", lambda match: f"_{ord(match[0]):02x}", interface)


def render_rate(table: str, interface: str, bytes_per_second: int | None) -> str:
    """Limit what a guest sends: drop what comes in through its host end above a rate, or lift the limit (None).

    The chain is bound to the device (family netdev) by name: it goes with the device on older kernels, and waits for
    the next one of that name since Linux 6.16, so it is to be lifted for a device that has no limit. The kernel lets
    a second's worth through at once, and the burst on top of it; the burst is what lets a segment of veth's, up to
    64 KiB, pass at low rates.
    """
    name, inner = table_word(table), interface_word(interface)
    chain = rate_chain(interface)
    declared = f"\tchain {chain} {{\n\t\ttype filter hook ingress device {inner} priority 0; policy accept;\n\t}}\n"
    lines = [f"table netdev {name} {{\n{declared}}}"]
    if bytes_per_second is None:
        lines += [f"flush chain netdev {name} {chain}", f"delete chain netdev {name} {chain}"]
    else:
        lines += [
            f"flush chain netdev {name} {chain}",
            f"add rule netdev {name} {chain} limit rate over {bytes_per_second} bytes/second burst {_BURST} bytes drop",
        ]
    return "\n".join(lines) + "\n"


def render_forgotten(table: str, chains: Sequence[str]) -> str:
    """Remove rate chains whose devices are gone."""
    return "".join(f"delete chain netdev {table_word(table)} {_chain(chain)}\n" for chain in chains)
