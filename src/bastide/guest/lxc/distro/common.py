"""What is alike in most distributions: host name, hosts, resolv.conf, time zone, systemd's quirks, consoles."""

import re
from collections.abc import Sequence

from bastide.guest.lxc.distro import files
from bastide.guest.lxc.distro.nics import Nic
from bastide.host.rootdir import RootDir

# Units that fail in a container although systemd would try them: what they mount belongs to the host.
_MASKED = ("sys-kernel-debug.mount", "sys-kernel-tracing.mount", "sys-kernel-config.mount", "dev-hugepages.mount")
_LOCALHOST = re.compile(r"^\s*127\.0\.0\.1\s", re.MULTILINE)


def hostname(root: RootDir, name: str) -> None:
    """/etc/hostname (hostname(5)): the first label; the domain is told by /etc/hosts."""
    label = name.partition(".")[0]
    if (root.read_text("etc/hostname") or "").strip() != label:
        root.mkdir("etc")
        root.update("etc/hostname", f"{label}\n")


def hosts(root: RootDir, name: str, search: str | None, nics: Sequence[Nic]) -> None:
    """The guest's own name in /etc/hosts, at its first static address or at 127.0.1.1."""
    address = next((str(nic.address4.ip) for nic in nics if nic.address4), None)
    address = address or next((str(nic.address6.ip) for nic in nics if nic.address6), None) or "127.0.1.1"
    label, _, domain = name.partition(".")
    domain = domain or (search or "").partition(" ")[0]
    names = f"{label}.{domain} {label}" if domain else label
    text = root.read_text("etc/hosts") or ""
    loopback = "" if _LOCALHOST.search(text) else "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n"
    if loopback:
        root.mkdir("etc")
        root.update("etc/hosts", loopback + text)
    files.update_section(root, "etc/hosts", f"{address} {names}")


def resolver(root: RootDir, nameservers: Sequence[str], search: str | None) -> None:
    """Name servers: for systemd-resolved where the root's resolv.conf leads there, else resolv.conf itself."""
    link = root.readlink("etc/resolv.conf") or ""
    if "run/" in link:
        if "systemd/resolve" in link and files.has_unit(root, "systemd-resolved.service"):
            lines = [files.HEADER.rstrip(), "[Resolve]"]
            lines += [f"DNS={' '.join(nameservers)}"] if nameservers else []
            lines += [f"Domains={search}"] if search else []
            files.own_file(root, "etc/systemd/resolved.conf.d/bastide.conf", "\n".join([*lines, ""]))
            return
        if not root.exists(link if link.startswith("/") else f"etc/{link}") and "systemd" not in link:
            # Another service (NetworkManager, resolvconf) writes it at boot.
            return
    lines = [f"search {search}"] if search else []
    lines += [f"nameserver {name}" for name in nameservers]
    if link and not root.is_file("etc/resolv.conf"):
        root.unlink("etc/resolv.conf")
    files.update_section(root, "etc/resolv.conf", "\n".join(lines), top=True)


def timezone(root: RootDir, zone: str | None) -> None:
    """/etc/localtime (localtime(5)); the zone `host` has become the host's name before. None leaves it alone."""
    if zone is None:
        return
    target = f"/usr/share/zoneinfo/{zone}"
    if root.is_file(target):
        root.symlink(target, "etc/localtime")
        if root.is_file("etc/timezone"):
            root.update("etc/timezone", f"{zone}\n")


def systemd_quirks(root: RootDir) -> None:
    """Mask what fails in every container."""
    if files.has_systemd(root):
        for unit in _MASKED:
            files.mask(root, unit)


def consoles(root: RootDir, count: int, *, console: bool) -> None:
    """Log-in prompts where no systemd makes them: /etc/inittab of sysvinit and busybox; securetty(5)."""
    securetty = root.read_text("etc/securetty")
    if securetty is not None:
        missing = [name for name in ("console", *(f"tty{n}" for n in range(1, 7))) if name not in securetty.split()]
        if missing:
            root.update("etc/securetty", securetty.rstrip("\n") + "\n" + "\n".join([*missing, ""]))
    if files.has_systemd(root):
        _systemd_consoles(root, count)
        return
    inittab = root.read_text("etc/inittab")
    if inittab is None:
        return
    changed = inittab_for(inittab, count, console=console)
    if changed != inittab:
        root.update("etc/inittab", changed)


def _systemd_consoles(root: RootDir, count: int) -> None:
    """Prompts on the terminals: LXC makes tty1 the guest's pts/1 and so on; systemd itself serves /dev/console."""
    if not files.has_unit(root, "container-getty@.service"):
        return
    folder = "/usr/lib" if root.is_file("usr/lib/systemd/system/container-getty@.service") else "/lib"
    target = f"{folder}/systemd/system/container-getty@.service"
    wants = "etc/systemd/system/getty.target.wants"
    for number in range(1, 7):
        place = f"{wants}/container-getty@{number}.service"
        if number <= count and not root.exists(place):
            root.mkdir(wants)
            root.symlink(target, place)
        elif number > count and root.readlink(place) == target:
            root.unlink(place)


def inittab_for(text: str, count: int, *, console: bool) -> str:
    """An inittab with prompts on the console and the first `count` terminals only.

    Lines of terminals that the container does not have are commented out; those we commented come back.
    """
    busybox = re.search(r"^(tty\d|#tty\d|::)", text, re.MULTILINE) is not None and "initdefault" not in text
    lines = []
    for raw in files.section(text, "").splitlines():
        line = raw.removeprefix("#bastide# ")
        match = re.match(r"^(?:[^:#]*:[^:]*:respawn:.*?\btty(\d+)\b|tty(\d+)::)", line)
        number = int(match[1] or match[2]) if match else 0
        lines.append(f"#bastide# {line}" if match and number > count else line)
    ours = []
    if busybox:
        if console and not re.search(r"^(console)?::respawn:.*getty.*console", "\n".join(lines), re.MULTILINE):
            ours.append("console::respawn:/sbin/getty 38400 console")
    else:
        ours += ["bco:2345:respawn:/sbin/getty --noclear 38400 console"] if console else []
        # LXC asks for a halt by SIGPWR, for a reboot by SIGINT.
        ours.append("bpf::powerfail:/sbin/shutdown -h now")
    return files.section("\n".join([*lines, ""]), "\n".join(ours))
