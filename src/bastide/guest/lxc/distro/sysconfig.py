"""ifcfg files: network-scripts of the older RHEL family, wicked of openSUSE (ifcfg(5))."""

from collections.abc import Sequence

from bastide.guest.lxc.distro import files
from bastide.guest.lxc.distro.nics import Nic
from bastide.host.rootdir import RootDir

_REDHAT = "etc/sysconfig/network-scripts"
_SUSE = "etc/sysconfig/network"


def write_redhat(root: RootDir, nics: Sequence[Nic]) -> None:
    """network-scripts: one file an interface, which bears the interface's name and so is ours while it is managed."""
    for nic in nics:
        if nic.managed:
            files.own_file(root, f"{_REDHAT}/ifcfg-{nic.name}", redhat(nic))
            routes = (
                f"{nic.gateway4} dev {nic.name}\ndefault via {nic.gateway4} dev {nic.name}\n" if nic.onlink4 else ""
            )
            _routes(root, f"{_REDHAT}/route-{nic.name}", routes)


def write_suse(root: RootDir, nics: Sequence[Nic]) -> None:
    """wicked: one file an interface, routes beside it."""
    for nic in nics:
        if nic.managed:
            files.own_file(root, f"{_SUSE}/ifcfg-{nic.name}", suse(nic))
            lines = []
            if nic.gateway4 is not None:
                lines += [f"{nic.gateway4} - - {nic.name}"] if nic.onlink4 else []
                lines.append(f"default {nic.gateway4} - {nic.name}")
            if nic.gateway6 is not None:
                lines += [f"{nic.gateway6} - - {nic.name}"] if nic.onlink6 else []
                lines.append(f"default {nic.gateway6} - {nic.name}")
            _routes(root, f"{_SUSE}/ifroute-{nic.name}", "".join(f"{line}\n" for line in lines))


def _routes(root: RootDir, path: str, content: str) -> None:
    if content:
        files.own_file(root, path, files.HEADER + content)
    elif (root.read_text(path) or "").startswith(files.HEADER):
        root.unlink(path)


def redhat(nic: Nic) -> str:
    """The text of one interface's file for network-scripts."""
    lines = [files.HEADER.rstrip(), f"DEVICE={nic.name}", "ONBOOT=yes", "TYPE=Ethernet"]
    lines.append(f"BOOTPROTO={'dhcp' if nic.method4 == 'dhcp' else 'none'}")
    if nic.mtu is not None:
        lines.append(f"MTU={nic.mtu}")
    if nic.address4 is not None:
        lines += [f"IPADDR={nic.address4.ip}", f"PREFIX={nic.address4.network.prefixlen}"]
    if nic.gateway4 is not None and not nic.onlink4:
        lines.append(f"GATEWAY={nic.gateway4}")
    if nic.method6 in ("static", "auto", "dhcp"):
        lines += ["IPV6INIT=yes", f"IPV6_AUTOCONF={'yes' if nic.method6 == 'auto' else 'no'}"]
        lines += ["DHCPV6C=yes"] if nic.method6 == "dhcp" else []
    if nic.address6 is not None:
        lines.append(f"IPV6ADDR={nic.address6}")
    if nic.gateway6 is not None:
        lines.append(f"IPV6_DEFAULTGW={nic.gateway6}%{nic.name}")
    return "\n".join([*lines, ""])


def suse(nic: Nic) -> str:
    """The text of one interface's file for wicked."""
    dynamic = {(True, True): "dhcp", (True, False): "dhcp4", (False, True): "dhcp6"}.get(
        (nic.method4 == "dhcp", nic.method6 == "dhcp")
    )
    static = nic.address4 is not None or nic.address6 is not None
    protocol = f"{dynamic}+static" if dynamic and static else dynamic or ("static" if static else "auto6")
    lines = [files.HEADER.rstrip(), "STARTMODE='auto'", f"BOOTPROTO='{protocol}'"]
    if nic.mtu is not None:
        lines.append(f"MTU='{nic.mtu}'")
    if nic.address4 is not None:
        lines.append(f"IPADDR='{nic.address4}'")
    if nic.address6 is not None:
        lines.append(f"IPADDR_1='{nic.address6}'")
    return "\n".join([*lines, ""])
