"""The configuration drive of a VM: what cloud-init or cloudbase-init in the guest reads at its first boot. Pure.

Sources: cloud-init's documentation of the NoCloud and ConfigDrive data sources and of network configuration version 1,
OpenStack's network_data.json schema (cloudbase-init reads it), qm.conf(5) for `ipconfig[n]` and `citype`.
"""

import hashlib
import io
import ipaddress
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import yaml

from bastide.base.errors import InvalidParameter

NOCLOUD_LABEL = "cidata"
CONFIG_DRIVE_LABEL = "config-2"

Form = Literal["nocloud", "configdrive2"]


@dataclass(frozen=True, slots=True)
class SeedNic:
    """The addresses of the interface `net<index>`, which the guest knows by its MAC address.

    `ip` is `dhcp`, `manual`, an IPv4 CIDR such as `192.0.2.5/24`, or None; `ip6` likewise, and `auto` (SLAAC). `gw` and
    `gw6` are routers' addresses. With neither `ip` nor `ip6`: DHCP, as qm.conf(5) says.
    """

    index: int
    hwaddr: str
    ip: str | None = None
    gw: str | None = None
    ip6: str | None = None
    gw6: str | None = None


@dataclass(frozen=True, slots=True)
class Seed:
    """What a guest shall become. Texts (`user_data` ...) replace what would be made from the other fields.

    `user` None is the image's own default user. `password_hash` is in crypt(3)'s form, `password` the plain one that
    only a configuration drive for Windows holds. An empty `instance_id` is made from the contents, so that any change
    runs cloud-init again.
    """

    hostname: str
    fqdn: str | None = None
    instance_id: str = ""
    user: str | None = None
    password_hash: str | None = None
    password: str | None = None
    ssh_keys: Sequence[str] = ()
    upgrade: bool = True
    nics: Sequence[SeedNic] = ()
    nameservers: Sequence[str] = ()
    searchdomains: Sequence[str] = ()
    user_data: str | None = None
    network_data: str | None = None
    vendor_data: str | None = None
    meta_data: str | None = None


def documents(seed: Seed, form: Form = "nocloud") -> dict[str, str]:
    """The texts on the drive by their path, without a leading slash.

    NoCloud: `user-data`, `meta-data`, `network-config`, `vendor-data`. ConfigDrive2: `openstack/latest/user_data`,
    `meta_data.json`, `network_data.json`, `vendor_data.json` beside it. Raises InvalidParameter for a faulty address.
    """
    return _config_drive(seed) if form == "configdrive2" else _nocloud(seed)


def iso(texts: Mapping[str, str], form: Form = "nocloud") -> bytes:
    """The ISO image with the documents: Joliet and Rock Ridge names, labelled as the reader expects it."""
    # Loaded at the first use: most calls of the daemon's make no drive.
    import pycdlib  # noqa: PLC0415

    image = pycdlib.PyCdlib()
    label = CONFIG_DRIVE_LABEL if form == "configdrive2" else NOCLOUD_LABEL
    image.new(interchange_level=3, joliet=3, rock_ridge="1.09", vol_ident=label)
    made: dict[str, str] = {"": ""}
    for number, (path, text) in enumerate(sorted(texts.items())):
        folder, _, name = path.rpartition("/")
        for depth in range(folder.count("/") + 1 if folder else 0):
            above = "/".join(folder.split("/")[: depth + 1])
            if above not in made:
                made[above] = f"{made[above.rpartition('/')[0]]}/D{len(made)}"
                image.add_directory(made[above], rr_name=above.rpartition("/")[2], joliet_path=f"/{above}")
        data = text.encode()
        place = f"{made[folder]}/F{number}.;1"
        image.add_fp(io.BytesIO(data), len(data), place, rr_name=name, joliet_path=f"/{path}")
    result = io.BytesIO()
    image.write_fp(result)
    image.close()
    return result.getvalue()


def user_data(seed: Seed) -> str:
    """cloud-config: the host name, the login and its keys. A password opens ssh to passwords; none closes it."""
    if seed.user_data is not None:
        return seed.user_data
    config: dict[str, Any] = {"hostname": seed.hostname, "manage_etc_hosts": True}
    if seed.fqdn:
        config["fqdn"] = seed.fqdn
    if seed.user:
        config["user"] = seed.user
    if seed.user == "root":
        config["disable_root"] = False
    if seed.password_hash:
        config["password"] = seed.password_hash
    if seed.ssh_keys:
        config["ssh_authorized_keys"] = list(seed.ssh_keys)
    config["chpasswd"] = {"expire": False}
    config["ssh_pwauth"] = bool(seed.password_hash)
    if seed.user != "root":
        config["users"] = ["default"]
    config["package_upgrade"] = seed.upgrade
    return "#cloud-config\n" + _yaml(config)


def network_config(seed: Seed) -> str:
    """Network configuration, version 1, which every cloud-init reads: `net0` becomes the guest's eth0."""
    if seed.network_data is not None:
        return seed.network_data
    entries: list[dict[str, Any]] = []
    for nic in seed.nics:
        subnets = [one for one in (_subnet4(nic), _subnet6(nic)) if one is not None]
        entries.append(
            {
                "type": "physical",
                "name": f"eth{nic.index}",
                "mac_address": nic.hwaddr.lower(),
                "subnets": subnets or [{"type": "manual"}],
            }
        )
    if seed.nameservers or seed.searchdomains:
        resolver: dict[str, Any] = {"type": "nameserver", "address": list(seed.nameservers)}
        entries.append({**resolver, "search": list(seed.searchdomains)} if seed.searchdomains else resolver)
    return _yaml({"version": 1, "config": entries})


def _nocloud(seed: Seed) -> dict[str, str]:
    texts = {
        "user-data": user_data(seed),
        "network-config": network_config(seed),
        "vendor-data": seed.vendor_data or "",
    }
    if seed.meta_data is not None:
        meta = seed.meta_data
    else:
        meta = _yaml({"instance-id": seed.instance_id or _digest(texts), "local-hostname": seed.hostname})
    return {**texts, "meta-data": meta}


def _config_drive(seed: Seed) -> dict[str, str]:
    folder = "openstack/latest"
    texts = {
        f"{folder}/user_data": user_data(seed),
        f"{folder}/network_data.json": seed.network_data if seed.network_data is not None else _network_data(seed),
        f"{folder}/vendor_data.json": seed.vendor_data or "{}\n",
    }
    if seed.meta_data is not None:
        meta = seed.meta_data
    else:
        identity = [*texts.values(), seed.hostname, seed.password or "", *seed.ssh_keys]
        fields: dict[str, Any] = {
            "uuid": seed.instance_id or _digest({str(number): text for number, text in enumerate(identity)}),
            "hostname": seed.hostname,
        }
        if seed.password:
            fields["admin_pass"] = seed.password
        if seed.ssh_keys:
            fields["public_keys"] = {f"key-{number}": key for number, key in enumerate(seed.ssh_keys)}
        meta = _json(fields)
    return {**texts, f"{folder}/meta_data.json": meta}


def _subnet4(nic: SeedNic) -> dict[str, Any] | None:
    wanted = nic.ip or ("dhcp" if not nic.ip6 else "manual")
    if wanted == "manual":
        return None
    if wanted == "dhcp":
        return {"type": "dhcp4"}
    subnet: dict[str, Any] = {"type": "static", "address": str(_interface(f"ipconfig{nic.index}", wanted, 4))}
    return {**subnet, "gateway": _router(f"ipconfig{nic.index}", nic.gw, 4)} if nic.gw else subnet


def _subnet6(nic: SeedNic) -> dict[str, Any] | None:
    if nic.ip6 in (None, "", "manual"):
        return None
    if nic.ip6 == "auto":
        return {"type": "ipv6_slaac"}
    if nic.ip6 == "dhcp":
        return {"type": "ipv6_dhcpv6-stateful"}
    subnet: dict[str, Any] = {"type": "static6", "address": str(_interface(f"ipconfig{nic.index}", str(nic.ip6), 6))}
    return {**subnet, "gateway": _router(f"ipconfig{nic.index}", nic.gw6, 6)} if nic.gw6 else subnet


def _network_data(seed: Seed) -> str:
    links = [
        {"id": f"net{nic.index}", "type": "phy", "name": f"eth{nic.index}", "ethernet_mac_address": nic.hwaddr.lower()}
        for nic in seed.nics
    ]
    networks = [network for nic in seed.nics for network in _networks(nic)]
    services = [{"type": "dns", "address": address} for address in seed.nameservers]
    return _json({"links": links, "networks": networks, "services": services})


def _networks(nic: SeedNic) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for family, subnet, any_address in ((4, _subnet4(nic), "0.0.0.0"), (6, _subnet6(nic), "::")):  # noqa: S104 - the route to everywhere
        if subnet is None:
            continue
        network: dict[str, Any] = {"id": f"net{nic.index}-ipv{family}", "link": f"net{nic.index}"}
        if "address" not in subnet:
            dynamic = {"dhcp4": "ipv4_dhcp"}
            found.append({**network, "type": dynamic.get(subnet["type"], subnet["type"])})
            continue
        address = ipaddress.ip_interface(subnet["address"])
        network |= {"type": f"ipv{family}", "ip_address": str(address.ip), "netmask": str(address.netmask)}
        if "gateway" in subnet:
            # The prefix ::/0 has the netmask ::, and 0.0.0.0/0 the netmask 0.0.0.0.
            route = {"network": any_address, "netmask": any_address, "gateway": subnet["gateway"]}
            network["routes"] = [route]
        found.append(network)
    return found


def _interface(key: str, text: str, version: int) -> ipaddress.IPv4Interface | ipaddress.IPv6Interface:
    try:
        found = ipaddress.ip_interface(text)
    except ValueError:
        raise InvalidParameter({key: f"'{text[:60]}' is not an address with a prefix length"}) from None
    if found.version != version or "/" not in text:
        raise InvalidParameter({key: f"'{text[:60]}' is not an IPv{version} address with a prefix length"})
    return found


def _router(key: str, text: str | None, version: int) -> str:
    try:
        found = ipaddress.ip_address(text or "")
    except ValueError:
        found = None
    if found is None or found.version != version:
        raise InvalidParameter({key: f"'{(text or '')[:60]}' is not an IPv{version} address"})
    return str(found)


def _digest(texts: Mapping[str, str]) -> str:
    return hashlib.sha1(_json(dict(texts)).encode(), usedforsecurity=False).hexdigest()


def _yaml(value: Mapping[str, Any]) -> str:
    text: str = yaml.safe_dump(dict(value), sort_keys=False, allow_unicode=True, width=10_000)
    return text


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(dict(value), indent=1, sort_keys=True) + "\n"
