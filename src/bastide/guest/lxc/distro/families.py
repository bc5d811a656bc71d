"""One function a family: how it wants its network. Everything else is alike and lies in `common.py`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bastide.guest.lxc.distro import files, ifupdown, networkd, networkmanager, sysconfig
from bastide.guest.lxc.distro.nics import Nic
from bastide.host.rootdir import RootDir


@dataclass(frozen=True, slots=True)
class Net:
    """What a writer of network configuration needs."""

    nics: Sequence[Nic]
    nameservers: Sequence[str]
    search: str | None


def debian(root: RootDir, net: Net) -> None:
    """Debian, Devuan, Ubuntu: ifupdown where it is installed, else networkd or NetworkManager."""
    if root.is_file("sbin/ifup") or root.is_file("usr/sbin/ifup"):
        ifupdown.write(root, net.nics)
    else:
        _modern(root, net)


def ubuntu(root: RootDir, net: Net) -> None:
    """Ubuntu: networkd (netplan's own choice on servers); its files come before netplan's."""
    if networkd.present(root):
        networkd.write(root, net.nics, net.nameservers, net.search)
    else:
        debian(root, net)


def alpine(root: RootDir, net: Net) -> None:
    """Alpine: ifupdown-ng or busybox's, started by the OpenRC service `networking`."""
    ifupdown.write(root, net.nics)
    if root.is_file("etc/init.d/networking") and not root.exists("etc/runlevels/boot/networking"):
        root.mkdir("etc/runlevels/boot")
        root.symlink("/etc/init.d/networking", "etc/runlevels/boot/networking")


def redhat(root: RootDir, net: Net) -> None:
    """Fedora and the RHEL family: NetworkManager, networkd, else network-scripts."""
    if networkmanager.present(root) or networkd.present(root):
        _modern(root, net)
    else:
        sysconfig.write_redhat(root, net.nics)
        if net.nics and not root.exists("etc/sysconfig/network"):
            files.own_file(root, "etc/sysconfig/network", "NETWORKING=yes\n")


def suse(root: RootDir, net: Net) -> None:
    """openSUSE: wicked, or NetworkManager since Leap 16."""
    if files.has_unit(root, "wicked.service"):
        sysconfig.write_suse(root, net.nics)
    else:
        _modern(root, net)


def arch(root: RootDir, net: Net) -> None:
    """Arch Linux: networkd."""
    networkd.write(root, net.nics, net.nameservers, net.search)


def nixos(root: RootDir, net: Net) -> None:
    """NixOS: its container profile starts networkd and leaves /etc/systemd/network to the host."""
    networkd.write(root, net.nics, net.nameservers, net.search)


def gentoo(root: RootDir, net: Net) -> None:
    """Gentoo: netifrc with OpenRC, networkd with systemd."""
    if files.has_systemd(root):
        networkd.write(root, net.nics, net.nameservers, net.search)
        return
    lines = []
    for nic in net.nics:
        if not nic.managed:
            continue
        addresses = [str(address) for address in (nic.address4, nic.address6) if address is not None]
        addresses += ["dhcp"] if nic.method4 == "dhcp" else []
        addresses += ["dhcpv6"] if nic.method6 == "dhcp" else []
        lines.append(f"config_{nic.name}={files.quoted(chr(10).join(addresses) or 'null')}")
        routes = [f"{nic.gateway4} dev {nic.name}"] if nic.onlink4 else []
        routes += [f"default via {gateway}" for gateway in (nic.gateway4, nic.gateway6) if gateway is not None]
        lines += [f"routes_{nic.name}={files.quoted(chr(10).join(routes))}"] if routes else []
        if root.is_file("etc/init.d/net.lo") and not root.exists(f"etc/init.d/net.{nic.name}"):
            root.symlink("net.lo", f"etc/init.d/net.{nic.name}")
            root.mkdir("etc/runlevels/default")
            root.symlink(f"/etc/init.d/net.{nic.name}", f"etc/runlevels/default/net.{nic.name}")
    files.update_section(root, "etc/conf.d/net", "\n".join(lines))


def _modern(root: RootDir, net: Net) -> None:
    if networkmanager.present(root):
        networkmanager.write(root, net.nics, net.nameservers, net.search)
    elif networkd.present(root):
        networkd.write(root, net.nics, net.nameservers, net.search)


FAMILIES: dict[str, Callable[[RootDir, Net], None]] = {
    "debian": debian,
    "devuan": debian,
    "ubuntu": ubuntu,
    "alpine": alpine,
    "centos": redhat,
    "fedora": redhat,
    "opensuse": suse,
    "archlinux": arch,
    "nixos": nixos,
    "gentoo": gentoo,
}
