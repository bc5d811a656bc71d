"""NetworkManager's key files (nm-settings-keyfile(5)): Fedora, the RHEL family, openSUSE."""

import uuid
from collections.abc import Sequence

from bastide.guest.lxc.distro import files
from bastide.guest.lxc.distro.nics import Nic
from bastide.host.rootdir import RootDir

_FOLDER = "etc/NetworkManager/system-connections"
_PREFIX = "bastide-"
_NAMESPACE = uuid.UUID("6f0e3a6c-2f0c-4e1c-9a6e-6d1f2a3b4c5d")


def present(root: RootDir) -> bool:
    """Whether the root has NetworkManager."""
    return files.has_unit(root, "NetworkManager.service")


def write(root: RootDir, nics: Sequence[Nic], nameservers: Sequence[str], search: str | None) -> None:
    """One connection an interface, ours alone."""
    managed = [nic for nic in nics if nic.managed]
    for nic in managed:
        content = keyfile(nic, nameservers, search)
        files.own_file(root, f"{_FOLDER}/{_PREFIX}{nic.name}.nmconnection", content, mode=0o600)
    files.drop_stale(root, _FOLDER, _PREFIX, [f"{_PREFIX}{nic.name}.nmconnection" for nic in managed])
    if managed:
        files.enable(root, "NetworkManager.service")


def keyfile(nic: Nic, nameservers: Sequence[str], search: str | None) -> str:
    """The text of one interface's connection."""
    lines = [
        files.HEADER.rstrip(), "[connection]", f"id=bastide-{nic.name}", f"uuid={uuid.uuid5(_NAMESPACE, nic.name)}",
        "type=ethernet", f"interface-name={nic.name}", "autoconnect=true", "autoconnect-priority=100", "", "[ethernet]",
    ]  # fmt: skip
    if nic.mtu is not None:
        lines.append(f"mtu={nic.mtu}")
    method4 = {"static": "manual", "dhcp": "auto"}.get(nic.method4 or "", "disabled")
    method6 = {"static": "manual", "dhcp": "dhcp", "auto": "auto"}.get(nic.method6 or "", "link-local")
    for family, method, address, gateway in (
        (4, method4, nic.address4, nic.gateway4),
        (6, method6, nic.address6, nic.gateway6),
    ):
        lines += ["", f"[ipv{family}]", f"method={method}"]
        if address is not None:
            lines.append(f"address1={address}" + (f",{gateway}" if gateway is not None else ""))
        servers = [name for name in nameservers if (":" in name) == (family == 6)]
        if servers and method not in ("disabled", "link-local"):
            lines.append(f"dns={';'.join(servers)};")
            if search:
                lines.append(f"dns-search={';'.join(search.split())};")
    return "\n".join([*lines, ""])
