"""systemd-networkd's files (systemd.network(5)): Arch, NixOS, Ubuntu and whoever else runs it."""

from collections.abc import Sequence

from bastide.guest.lxc.distro import files
from bastide.guest.lxc.distro.nics import Nic
from bastide.host.rootdir import RootDir

_FOLDER = "etc/systemd/network"
# Before netplan's 10-netplan-*: the first file that matches an interface wins.
_PREFIX = "10-bastide-"


def present(root: RootDir) -> bool:
    """Whether the root has systemd-networkd."""
    return files.has_unit(root, "systemd-networkd.service")


def write(root: RootDir, nics: Sequence[Nic], nameservers: Sequence[str], search: str | None) -> None:
    """One file an interface, ours alone; the service starts with the guest."""
    managed = [nic for nic in nics if nic.managed]
    for nic in managed:
        files.own_file(root, f"{_FOLDER}/{_PREFIX}{nic.name}.network", network_file(nic, nameservers, search))
    files.drop_stale(root, _FOLDER, _PREFIX, [f"{_PREFIX}{nic.name}.network" for nic in managed])
    if managed:
        files.enable(root, "systemd-networkd.service")
        files.enable(root, "systemd-networkd.socket", "sockets.target")


def network_file(nic: Nic, nameservers: Sequence[str], search: str | None) -> str:
    """The text of one interface's file."""
    dhcp = {(True, True): "yes", (True, False): "ipv4", (False, True): "ipv6", (False, False): "no"}[
        nic.method4 == "dhcp", nic.method6 == "dhcp"
    ]
    lines = [files.HEADER.rstrip(), "[Match]", f"Name={nic.name}", ""]
    if nic.mtu is not None:
        lines += ["[Link]", f"MTUBytes={nic.mtu}", ""]
    accept = "yes" if nic.method6 in ("auto", "dhcp") else "no"
    lines += ["[Network]", f"DHCP={dhcp}", f"IPv6AcceptRA={accept}"]
    lines += [f"DNS={address}" for address in nameservers]
    if search:
        lines.append(f"Domains={search}")
    lines += [f"Address={address}" for address in (nic.address4, nic.address6) if address is not None]
    for gateway, onlink in ((nic.gateway4, nic.onlink4), (nic.gateway6, nic.onlink6)):
        if gateway is not None:
            lines += ["", "[Route]", f"Gateway={gateway}"]
            lines += ["GatewayOnLink=yes"] if onlink else []
    if nic.method4 == "dhcp":
        # The hardware address is what the host gives names and addresses by; the machine-id says nothing to it. The
        # guest knows its name from /etc/hostname: systemd-hostnamed need not start in every boot to be told it.
        lines += ["", "[DHCPv4]", "ClientIdentifier=mac", "UseMTU=yes", "UseHostname=no"]
    return "\n".join([*lines, ""])
