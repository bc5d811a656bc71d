"""What a guest may send into a bridge, as nftables text; pure.

Rules name a port by its interface's name, so that they are there before the port is, and stand in a table `bridge
<instance>` of our own. They look at what comes in from a guest alone, before the bridge learns an address from it. The
rules never change; which port may use which address is elements of sets, so that a guest comes and goes by elements.

On the managed bridge, whose addresses Bastide gives out, a port may use its own hardware address, its own IPv4
addresses, and IPv6 addresses of the bridge's prefix and link-local ones: those that are known to be its own at once,
others (temporary ones, RFC 8981, and stable opaque ones, RFC 7217) when nobody else has them. Who uses one first keeps
it while it is used (first come, first served: RFC 6620). There are no VLAN tags, no spanning tree and no protocols but
ARP and IP. On any other bridge it is the hardware address, and no router advertisements, redirects or DHCP answers.

Integers of 48 and 128 bits are addresses: nft(8) before 1.0.9 compares fields of ARP, DHCP and neighbour discovery with
what is in a set only if both are raw payload. Offsets are those of RFC 826, 2131, 4861 and 8200.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_interface

from bastide.base.errors import InvalidParameter
from bastide.network.nft import interface_word, table_word
from bastide.network.protocol import ManagedBridge, Port

LINK_LOCAL = IPv6Network("fe80::/64")
_DYNAMIC = ("dhcp", "auto", "manual")
Elements = dict[str, set[str]]

# Sets that hold what is known. `bound6` and `claimed6`, of one and the same addresses, are what guests have claimed
# themselves; they outlive a change of the rules. Claims are limited, so that nobody fills them with made up addresses.
_SETS = """\
	set strict { type ifname; }
	set plain { type ifname; }
	set trunks { type ifname; }
	set macs { typeof iifname . @ll,48,48; }
	set own4 { type ifname . ipv4_addr; }
	set own6 { typeof iifname . @nh,64,128; }
	set taken6 { typeof @nh,64,128; }
	set bound6 { typeof iifname . @nh,64,128; size 65536; flags dynamic,timeout; timeout 1h; }
	set claimed6 { typeof @nh,64,128; size 65536; flags dynamic,timeout; timeout 1h; }
	set claims { type ifname; size 65536; flags dynamic,timeout; timeout 1h; }
"""
_KNOWN = ("strict", "plain", "trunks", "macs", "own4", "own6", "taken6")
_CHAINS = (
    "port",
    "plain_port",
    "in_arp",
    "in_ipv4",
    "in_ipv6",
    "unspecified6",
    "solicit",
    "advertise",
    "source6",
    "target6",
)


@dataclass(frozen=True, slots=True)
class Guard:
    """What a port may send: `strict` as on the managed bridge, otherwise its hardware address is all that is known.

    `trunk` lets frames of further VLANs pass that bear the port's hardware address.
    """

    interface: str
    hwaddr: str
    strict: bool
    trunk: bool = False
    ipv4: tuple[str, ...] = ()
    ipv6: tuple[str, ...] = ()


def guard_of(interface: str, nic: Port, managed: ManagedBridge, ipv4: str | None) -> Guard | None:
    """The guard of a guest's interface, `ipv4` being the address it is given on the managed bridge; None without one.

    On the managed bridge an interface has one unless `firewall=0`, on others with `firewall=1`. A VLAN of its own
    (`tag`) is another network than the managed one: who has which address there is not known.
    """
    ours = nic.bridge == managed.name
    if nic.hwaddr is None or nic.bridge is None or not (ours if nic.firewall is None else nic.firewall):
        return None
    if not ours or nic.tag is not None:
        return Guard(interface, nic.hwaddr.lower(), strict=False, trunk=ours and nic.trunks is not None)
    addresses = [address_with(nic.hwaddr, prefix) for prefix in (LINK_LOCAL, managed.ipv6.network)]
    if nic.ip6 is not None and nic.ip6 not in _DYNAMIC:
        addresses.append(IPv6Address(ip_interface(nic.ip6).ip))
    return Guard(
        interface,
        nic.hwaddr.lower(),
        strict=True,
        trunk=nic.trunks is not None,
        ipv4=() if ipv4 is None else (ipv4,),
        ipv6=tuple(map(str, addresses)),
    )


def address_with(hwaddr: str, prefix: IPv6Network) -> IPv6Address:
    """The address that a hardware address makes in a /64 (modified EUI-64, RFC 4291 appendix A)."""
    octets = bytes.fromhex(hwaddr.replace(":", ""))
    identifier = bytes([octets[0] ^ 2]) + octets[1:3] + b"\xff\xfe" + octets[3:]
    return prefix.network_address + int.from_bytes(identifier)


def elements(guards: Iterable[Guard], routers: Iterable[IPv6Address]) -> Elements:
    """What the sets hold for these guards; `routers` are the bridge's own IPv6 addresses, which no guest may claim.

    Raises InvalidParameter for a value that cannot stand in a rule.
    """
    found: Elements = {name: set() for name in _KNOWN}
    found["taken6"].update(_number6(address) for address in routers)
    for guard in guards:
        port = interface_word(guard.interface)
        found["strict" if guard.strict else "plain"].add(port)
        found["macs"].add(f"{port} . {_number_of(guard.hwaddr)}")
        if guard.trunk:
            found["trunks"].add(port)
        found["own4"].update(f"{port} . {IPv4Address(address)}" for address in guard.ipv4)
        numbers = [_number6(IPv6Address(address)) for address in guard.ipv6]
        found["own6"].update(f"{port} . {number}" for number in numbers)
        found["taken6"].update(numbers)
    return found


def _number_of(hwaddr: str) -> str:
    digits = hwaddr.replace(":", "").lower()
    if len(digits) != 12 or not set(digits) <= set("0123456789abcdef"):
        raise InvalidParameter({"hwaddr": f"{hwaddr[:40]!r} is not a hardware address"})
    return f"0x{digits}"


def _number6(address: IPv6Address) -> str:
    return f"0x{int(address):032x}"


def render_change(table: str, before: Elements, after: Elements) -> str:
    """Turn the sets' elements from one state into another in one transaction; nothing for no difference."""
    lines = []
    for verb, old, new in (("delete", after, before), ("add", before, after)):
        for name in _KNOWN:
            changed = ", ".join(sorted(new[name] - old[name]))
            lines += [f"{verb} element bridge {table_word(table)} {name} {{ {changed} }}\n"] if changed else []
    return "".join(lines)


def render_guards(table: str, ipv6: IPv6Network, known: Mapping[str, set[str]]) -> str:
    """The whole rule set in one transaction: what guests have claimed themselves stays."""
    name = table_word(table)
    hook = "type filter hook prerouting priority filter; policy accept;"
    declared = "".join(f"\tchain {chain} {{\n\t}}\n" for chain in _CHAINS)
    parts = [f"table bridge {name} {{\n{_SETS}\tchain prerouting {{\n\t\t{hook}\n\t}}\n{declared}}}\n"]
    parts += [f"flush chain bridge {name} {chain}\n" for chain in ("prerouting", *_CHAINS)]
    parts += [f"flush set bridge {name} {each}\n" for each in _KNOWN]
    parts.append(f"table bridge {name} {{\n{_rules(ipv6)}}}\n")
    parts.append(render_change(table, {each: set() for each in _KNOWN}, dict(known)))
    return "".join(parts)


def render_afresh(table: str, ruleset: str) -> str:
    """The same where an older version has left a table whose sets are of another form: that one goes first."""
    name = table_word(table)
    return f"table bridge {name} {{\n}}\ndelete table bridge {name}\n{ruleset}"


# The managed network itself is VLAN 1 of its bridge, and 0 is whichever a port is in: a trunk carries the others.
_PORT_RULES = """\
	chain prerouting {
		iifname @strict goto port
		iifname @plain goto plain_port
	}
	chain port {
		iifname . @ll,48,48 != @macs drop
		ether type vmap { arp : goto in_arp, ip : goto in_ipv4, ip6 : goto in_ipv6 }
		vlan id 2-4094 iifname @trunks accept
		drop
	}
	chain plain_port {
		iifname . @ll,48,48 != @macs drop
		vlan id 1 iifname @trunks drop
		meta protocol arp iifname . @nh,64,48 != @macs drop
		meta protocol ip udp sport 67 drop
		meta protocol ip6 icmpv6 type { nd-router-advert, nd-redirect } drop
		meta protocol ip6 udp sport 547 drop
	}
"""
# Probes (RFC 5227) for a foreign address would make its owner give it up. A DHCP request in fragments would hide whose
# it is. DHCP's clients have no address yet, or the one they were given; chaddr is 28 octets behind UDP's header.
_IPV4_RULES = """\
	chain in_arp {
		arp htype != 1 drop
		arp ptype != ip drop
		arp hlen != 6 drop
		arp plen != 4 drop
		arp operation != { request, reply } drop
		iifname . @nh,64,48 != @macs drop
		arp saddr ip 0.0.0.0 arp operation request iifname . arp daddr ip @own4 accept
		iifname . arp saddr ip @own4 accept
		drop
	}
	chain in_ipv4 {
		udp sport 67 drop
		udp dport 67 ip frag-off & 0x3fff != 0 drop
		udp dport 67 iifname . @th,288,48 != @macs drop
		ip saddr 0.0.0.0 ip daddr 255.255.255.255 udp sport 68 udp dport 67 accept
		icmp type redirect drop
		igmp type membership-query drop
		ip saddr 0.0.0.0 ip daddr 224.0.0.0/4 ip protocol igmp accept
		iifname . ip saddr @own4 accept
		drop
	}
"""
# Fragments could hide what they are: a first one must hold the upper protocol's header as far as that says which it
# is (RFC 7112, RFC 7113). Neighbour discovery comes without extension headers and fragments (RFC 6980), and with one
# option at most: the sender's own link-layer address, or a nonce (RFC 7527) before it has an address. `ip6 length`
# counts what follows the header.
_IPV6_RULES = """\
	chain in_ipv6 {
		frag frag-off 0 jump fragment
		ip6 saddr :: goto unspecified6
		icmpv6 type { nd-router-advert, nd-redirect, mld-listener-query } drop
		udp sport 547 drop
		icmpv6 type { nd-neighbor-solicit, nd-router-solicit } jump solicit
		icmpv6 type nd-neighbor-advert jump advertise
		meta l4proto 0-254 goto source6
		drop
	}
	chain fragment {
		@th,0,16 0-65535 return
		drop
	}
	chain unspecified6 {
		icmpv6 type { mld-listener-report, mld2-listener-report } ip6 daddr ff00::/8 accept
		ip6 nexthdr != ipv6-icmp drop
		icmpv6 type nd-router-solicit ip6 length 8 accept
		icmpv6 type != nd-neighbor-solicit drop
		ip6 length 24 jump target6
		ip6 length 24 accept
		ip6 length 32 @th,192,16 0x0e01 jump target6
		ip6 length 32 @th,192,16 0x0e01 accept
		drop
	}
	chain solicit {
		ip6 nexthdr != ipv6-icmp drop
		icmpv6 type nd-router-solicit ip6 length 8 return
		icmpv6 type nd-router-solicit ip6 length 16 @th,64,16 0x0101 iifname . @th,80,48 @macs return
		icmpv6 type nd-router-solicit drop
		ip6 length 24 return
		ip6 length 32 @th,192,16 0x0101 iifname . @th,208,48 @macs return
		drop
	}
	chain advertise {
		ip6 nexthdr != ipv6-icmp drop
		ip6 length 24 goto target6
		ip6 length 32 @th,192,16 0x0201 iifname . @th,208,48 @macs goto target6
		drop
	}
"""
# FIELD is whose address it is: a packet's source, or the target of neighbour discovery, whose higher half is HALF.
_CLAIM_RULES = """\
	chain NAME {
		iifname . FIELD @own6 VERDICT
		FIELD @taken6 drop
		HALF != { PREFIXES } drop
		iifname . FIELD @bound6 update @bound6 { iifname . FIELD } update @claimed6 { FIELD } VERDICT
		FIELD @claimed6 drop
		update @claims { iifname limit rate over 10/minute burst 30 packets } drop
		add @claimed6 { FIELD } add @bound6 { iifname . FIELD } VERDICT
		drop
	}
"""


def _rules(ipv6: IPv6Network) -> str:
    prefixes = ", ".join(f"0x{int(prefix.network_address) >> 64:016x}" for prefix in (LINK_LOCAL, ipv6))
    claims = _CLAIM_RULES.replace("PREFIXES", prefixes)
    source = {"NAME": "source6", "FIELD": "@nh,64,128", "HALF": "@nh,64,64", "VERDICT": "accept"}
    target = {"NAME": "target6", "FIELD": "@th,64,128", "HALF": "@th,64,64", "VERDICT": "return"}
    return _PORT_RULES + _IPV4_RULES + _IPV6_RULES + _filled(claims, source) + _filled(claims, target)


def _filled(text: str, words: Mapping[str, str]) -> str:
    for word, meaning in words.items():
        text = text.replace(word, meaning)
    return text
