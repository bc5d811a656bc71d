"""Bring a root file system in line with its container's options, in the way its distribution wants it."""

from pathlib import Path

from bastide.guest.lxc.distro import common, files, networkd, networkmanager
from bastide.guest.lxc.distro.detect import distribution
from bastide.guest.lxc.distro.families import FAMILIES, Net
from bastide.guest.lxc.distro.nics import nics_of
from bastide.guest.protocol import ContainerPlan
from bastide.host.rootdir import RootDir
from bastide.model.container import ContainerConfig


def customize(root: RootDir, plan: ContainerPlan) -> None:
    """Host name, network, DNS, time zone, consoles. Running it again changes nothing.

    A root of no known distribution (`unmanaged`) is left exactly as it is.
    """
    config = plan.config
    family = config.ostype or distribution(root)
    if family not in FAMILIES:
        return
    name = config.hostname or f"CT{plan.vmid}"
    nics = nics_of(plan)
    if family != "nixos":
        common.hostname(root, name)
        common.hosts(root, name, plan.searchdomain, nics)
        common.resolver(root, plan.nameservers, plan.searchdomain)
        common.timezone(root, _zone(config))
        common.systemd_quirks(root)
        common.consoles(root, config.tty_count, console=config.console is not False)
    _extra_names(root, family, name)
    FAMILIES[family](root, Net(nics, plan.nameservers, plan.searchdomain))


def _extra_names(root: RootDir, family: str, name: str) -> None:
    """Where a distribution keeps the host name beside /etc/hostname."""
    label = name.partition(".")[0]
    if family == "gentoo" and not files.has_systemd(root):
        text = root.read_text("etc/conf.d/hostname") or ""
        files.own_file(root, "etc/conf.d/hostname", files.set_key(text, "hostname", files.quoted(label)))
    elif family == "centos" and root.is_file("etc/sysconfig/network") and not files.has_systemd(root):
        text = root.read_text("etc/sysconfig/network") or ""
        root.update("etc/sysconfig/network", files.set_key(text, "HOSTNAME", name))
    elif family == "opensuse" and root.is_file("etc/HOSTNAME"):
        root.update("etc/HOSTNAME", f"{label}\n")


def _zone(config: ContainerConfig) -> str | None:
    if config.timezone != "host":
        return config.timezone
    try:
        target = str(Path("/etc/localtime").readlink())
    except OSError:
        return None
    return target.partition("/zoneinfo/")[2] or None


def interface_up(root: RootDir, ostype: str | None, name: str) -> list[str] | None:
    """The command that lets a running guest configure a new interface, or None where there is none."""
    family = ostype or distribution(root)
    if family not in FAMILIES:
        return None
    if root.is_executable("sbin/ifup") or root.is_executable("usr/sbin/ifup"):
        return ["ifup", name]
    if networkmanager.present(root):
        return ["nmcli", "connection", "reload"]
    if networkd.present(root):
        return ["networkctl", "reload"]
    return None


def interface_down(root: RootDir, name: str) -> list[str] | None:
    """The command that lets a running guest give up an interface, or None where nothing need be done."""
    if root.is_executable("sbin/ifdown") or root.is_executable("usr/sbin/ifdown"):
        return ["ifdown", "--force", name]
    return None
