"""What this host can do for guests, check by check, and what to do about what it cannot.

A check only looks: nothing is changed, nothing is left behind. Three processes at most are started: the probe of mapped
mounts, which needs namespaces of its own, lsblk, and QEMU, which is asked what it can do.
"""

import asyncio
import os
import platform
import shutil
from collections.abc import Callable
from pathlib import Path

from bastide.base.errors import BastideError, HostFailure
from bastide.base.layout import Layout
from bastide.base.units import GIB
from bastide.host import (
    abilities,
    block_devices,
    btrfs,
    doctor_vms,
    facts,
    idmap,
    overlay,
    programs,
    quota,
    reflink,
    run,
    sampling,
    sysctl,
)
from bastide.host.checks import Check, Checks
from bastide.host.filesystems import mount_of, mounts

_TOOLS = {
    "lxc-start": ("lxc", "containers cannot run"),
    "nft": ("nftables", "the bridge of guests has no way to the network"),
    "dnsmasq": ("dnsmasq-base", "guests get no addresses and names"),
    "ip": ("iproute2", "guests' interfaces cannot be moved"),
    "mkfs.ext4": ("e2fsprogs", "volumes with a size cannot be made"),
    "zstd": ("zstd", "templates cannot be unpacked"),
    "xz": ("xz-utils", "templates in xz cannot be unpacked"),
}
_NEEDED_V1 = ("cpu", "cpuacct", "memory", "devices", "freezer", "pids")
_NEEDED_V2 = ("cpu", "memory", "pids")
_WISHED_V2 = ("cpuset", "io")
_WISHED_V1 = ("cpuset", "blkio")


def doctor(layout: Layout, port: int = 8006) -> list[Check]:
    """Look at everything. Blocks for some 400 ms; call it without a running event loop (it uses one of its own)."""
    checks: list[Callable[[], Checks]] = [
        _rights,
        _system,
        _cgroups,
        _namespaces,
        lambda: _mapped_mounts(layout),
        _tools,
        _lxc,
        _lxcfs,
        _confinement,
        _network,
        lambda: _space(layout),
        lambda: _filesystem(layout),
        _memory,
        _limits,
        _disks,
        _clock,
        lambda: _port(layout, port),
        doctor_vms.look,
    ]
    found: list[Check] = []
    for check in checks:
        try:
            found += check()
        except (OSError, ValueError, BastideError) as error:
            name = "virtual machines" if check is doctor_vms.look else getattr(check, "__name__", "check").strip("_")
            found.append(Check(name, "warn", f"could not be looked at: {error}", "Run it as root."))
    return found


def _rights() -> Checks:
    if os.geteuid() == 0:
        yield Check("rights", "ok", "this is root")
    else:
        yield Check("rights", "fail", "this is not root: nothing can be started", "Run bastide as root, or with sudo.")


def _system() -> Checks:
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        release = {}
    name, version = release.get("ID", "unknown"), release.get("VERSION_ID", "")
    supported = (name, version) in (("debian", "12"), ("debian", "13"), ("ubuntu", "24.04"))
    yield Check(
        "distribution",
        "ok" if supported else "warn",
        release.get("PRETTY_NAME", "unknown"),
        "" if supported else "Debian 12, Debian 13 and Ubuntu 24.04 are tested; others need their packages by hand.",
    )
    kernel = os.uname()
    numbers = tuple(int(part) for part in kernel.release.split("-")[0].split(".")[:2] if part.isdigit())
    recent = numbers >= (5, 12)
    yield Check(
        "kernel",
        "ok" if recent else "warn",
        f"{kernel.sysname} {kernel.release} ({kernel.machine})",
        ""
        if recent
        else "Mapped mounts came with Linux 5.12: upgrade the kernel, or creating containers takes longer.",
    )


def _cgroups() -> Checks:
    groups = abilities.cgroups()
    if groups.version == "none":
        yield Check("cgroups", "fail", "no control groups are mounted", "Mount them: systemd does, or cgroupfs-mount.")
        return
    second = groups.version == "v2"
    missing = [name for name in (_NEEDED_V2 if second else _NEEDED_V1) if name not in groups.controllers]
    absent = [name for name in (_WISHED_V2 if second else _WISHED_V1) if name not in groups.controllers]
    shown = f"{groups.version} with {', '.join(sorted(groups.controllers)) or 'no controller'}"
    if missing:
        where = "cgroup_enable=memory on the kernel's command line" if "memory" in missing else "the kernel's settings"
        yield Check("cgroups", "fail", f"{shown}; {', '.join(missing)} missing", f"Enable them: see {where}.")
    elif absent:
        yield Check(
            "cgroups", "warn", f"{shown}; {', '.join(absent)} missing", "Some limits and figures will not be there."
        )
    else:
        yield Check("cgroups", "ok", shown)


def _namespaces() -> Checks:
    most = sysctl.read("user/max_user_namespaces")
    if most is None:
        yield Check("user namespaces", "fail", "this kernel has none", "Use a kernel with CONFIG_USER_NS.")
    elif int(most) < 16:
        yield Check(
            "user namespaces",
            "fail",
            f"only {most} are allowed, so unprivileged containers cannot start",
            "sysctl user.max_user_namespaces=65536 (and a file in /etc/sysctl.d to keep it).",
        )
    else:
        yield Check("user namespaces", "ok", f"up to {most}")


def _mapped_mounts(layout: Layout) -> Checks:
    folder = _nearest(layout.local_storage)
    entry = mount_of(folder)
    kind = entry.fstype if entry else "the file system"
    if os.geteuid() != 0:
        yield Check("mapped mounts", "warn", "only root can find out", "Run it as root.")
    elif asyncio.run(idmap.supported(folder)):
        yield Check("mapped mounts", "ok", f"{kind} at {folder} shows guests their own owners")
    else:
        yield Check(
            "mapped mounts",
            "warn",
            f"{kind} at {folder} cannot show files with mapped owners; they are changed on disk instead",
            "Creating a container takes longer. ext4, xfs and btrfs on Linux 6.x can do it.",
        )


def _tools() -> Checks:
    missing = [name for name in _TOOLS if shutil.which(name, path=run.PATH) is None]
    for name in missing:
        package, consequence = _TOOLS[name]
        yield Check(name, "fail", f"not installed: {consequence}", f"apt-get install {package}")
    if not missing:
        yield Check("tools", "ok", ", ".join(_TOOLS))
    if shutil.which("mmdebstrap", path=run.PATH) is None:
        yield Check(
            "mmdebstrap",
            "warn",
            "not installed: templates can be pulled, not built",
            "apt-get install mmdebstrap",
        )
    else:
        yield Check("mmdebstrap", "ok", "templates can be built")


def _lxc() -> Checks:
    version = abilities.lxc_version()
    if version is None:
        yield Check("lxc", "fail", "liblxc is not installed", "apt-get install lxc")
    elif int(version.split(".")[0]) < 5:
        yield Check("lxc", "warn", f"version {version} is older than what is tested (5.0)", "Upgrade the system.")
    else:
        yield Check("lxc", "ok", f"version {version}")


def _lxcfs() -> Checks:
    if any(entry.fstype == "fuse.lxcfs" for entry in mounts()):
        yield Check("lxcfs", "ok", "containers see their own memory and processors")
    elif shutil.which("lxcfs", path=run.PATH):
        yield Check(
            "lxcfs",
            "warn",
            "installed, but not running: containers started now see the host's memory and processors",
            "`bastide up` starts it where systemd does not; else: systemctl start lxcfs",
        )
    else:
        yield Check(
            "lxcfs",
            "warn",
            "not installed: containers see the host's memory",
            "apt-get install lxcfs, then restart them.",
        )


def _confinement() -> Checks:
    enabled = Path("/sys/module/apparmor/parameters/enabled")
    if not enabled.exists() or enabled.read_text().strip() != "Y":
        yield Check(
            "apparmor",
            "warn",
            "this kernel runs without it; containers are confined by user namespaces, seccomp and capabilities",
            "On Debian and Ubuntu it is on by default: see security= and apparmor= on the kernel's command line.",
        )
    elif shutil.which("apparmor_parser", path=run.PATH) is None:
        yield Check("apparmor", "warn", "on, but profiles cannot be loaded", "apt-get install apparmor")
    else:
        yield Check("apparmor", "ok", "containers get a profile each")
    if sysctl.exists("kernel/seccomp/actions_avail"):
        yield Check("seccomp", "ok", "system calls are filtered")
    else:
        yield Check("seccomp", "fail", "this kernel has no seccomp", "Use a kernel with CONFIG_SECCOMP_FILTER.")


def _network() -> Checks:
    if os.geteuid() != 0:
        yield Check("network", "warn", "only root can find out", "Run it as root.")
        return
    questions: tuple[tuple[str, Callable[[], str | None], str], ...] = (
        ("bridge", lambda: abilities.link_refusal("bridge"), "modprobe bridge"),
        ("veth", lambda: abilities.link_refusal("veth"), "modprobe veth"),
        ("nftables", abilities.nftables_refusal, "modprobe nf_tables"),
    )
    for name, question, remedy in questions:
        refusal = question()
        if refusal is None:
            yield Check(name, "ok", "the kernel has it")
        else:
            yield Check(name, "fail", f"the kernel refuses: {refusal}", f"Try: {remedy}")
    if os.path.exists("/dev/net/tun"):
        yield Check("tun", "ok", "/dev/net/tun is there")
    else:
        yield Check("tun", "warn", "no /dev/net/tun: virtual machines get no network", "modprobe tun")


def _space(layout: Layout) -> Checks:
    seen: set[int] = set()
    for what, path in (("state", layout.state), ("storage", layout.local_storage), ("runtime", layout.runtime)):
        folder = _nearest(path)
        device = folder.stat().st_dev
        if device in seen:
            continue
        seen.add(device)
        space = facts.space(folder)
        least = GIB // 32 if what == "runtime" else GIB
        shown = f"{space.available / GIB:.1f} GiB of {space.total / GIB:.1f} GiB free at {path}"
        inodes = space.inodes_free / space.inodes if space.inodes else 1.0
        name = f"space ({what})"
        if space.available < least or inodes < 0.01:
            yield Check(
                name, "fail", f"{shown}; {inodes:.0%} of its inodes", "Free some, or give --root a larger disk."
            )
        elif space.available < 5 * least or inodes < 0.1:
            yield Check(name, "warn", f"{shown}; {inodes:.0%} of its inodes", "It will not hold many guests.")
        else:
            yield Check(name, "ok", shown)


def _filesystem(layout: Layout) -> Checks:
    folder = _nearest(layout.local_storage)
    entry = mount_of(folder)
    kind = entry.fstype if entry else "unknown"
    if quota.quota_mount(folder) is not None:
        yield Check("quota", "ok", f"{kind}: containers' sizes are enforced on plain folders")
    else:
        yield Check(
            "quota",
            "ok",
            f"{kind} without project quotas: a container with a size gets an ext4 image of its own",
            "Mount with prjquota (ext4: tune2fs -O project,quota) to keep them as folders.",
        )
    yield _sharing(folder, kind)


def _sharing(folder: Path, kind: str) -> Check:
    """By what means guests in a folder share their base, snapshots and clones what has not changed."""
    name = "copy-on-write"
    if btrfs.is_btrfs(folder):
        return Check(name, "ok", f"{kind}: containers are snapshots of subvolumes, disks share blocks (reflink)")
    if _shares_blocks(folder):
        return Check(name, "ok", f"{kind}: guests, snapshots and clones share blocks (reflink)")
    better = "On btrfs, or XFS with reflink, snapshots of containers copy nothing either."
    if overlay.supported():
        return Check(
            name, "ok", f"{kind}: containers are overlays over their base, disks have it as backing file", better
        )
    shown = f"{kind}: disks have their base as backing file, but containers are copied: no overlayfs with mapped owners"
    return Check(name, "warn", shown, f"Use Linux 5.19 or newer with overlayfs (modprobe overlay). {better}")


def _shares_blocks(folder: Path) -> bool:
    try:
        return reflink.supported(folder)
    except HostFailure:
        return False  # only root may try


def _memory() -> Checks:
    memory = sampling.memory()
    shown = f"{memory.available / GIB:.1f} GiB of {memory.total / GIB:.1f} GiB available"
    if memory.available < GIB // 4:
        yield Check("memory", "warn", shown, "There is hardly room for a guest.")
    else:
        yield Check("memory", "ok", shown)


def _limits() -> Checks:
    for name, least, each in (
        ("fs/inotify/max_user_instances", 512, "a container's systemd takes several"),
        ("fs/inotify/max_user_watches", 65536, "programs that watch folders take thousands"),
        ("kernel/pid_max", 32768, "all guests share them"),
    ):
        value = sysctl.read(name)
        if value is None:
            continue
        key = name.replace("/", ".")
        if int(value) < least:
            yield Check(
                key, "warn", f"{value}: {each}", f"sysctl {key}={least} (and a file in /etc/sysctl.d to keep it)."
            )
        else:
            yield Check(key, "ok", value)


def _disks() -> Checks:
    """What is missing for the disks that are there, and for what is on them."""
    found = [part for disk in asyncio.run(block_devices.disks()) for part in disk.whole]
    known = {part.fstype for part in found}
    needed = (
        ("smartctl", any(part.type in ("hdd", "ssd", "nvme") for part in found), "the health of disks is not known"),
        ("lvs", "LVM2_member" in known, "volume groups on this machine's disks cannot be storages"),
        ("zpool", "zfs_member" in known, "pools on this machine's disks cannot be storages"),
        ("mkfs.btrfs", "btrfs" in known, "file systems of btrfs cannot be checked or repaired"),
    )
    for program, wanted, consequence in needed:
        if wanted and programs.lacking([program]):
            package = programs.PACKAGES[program]
            yield Check(package, "warn", f"not installed: {consequence}", f"apt-get install {package}")


def _clock() -> Checks:
    if abilities.clock_is_synchronized():
        yield Check("clock", "ok", f"synchronized; time zone {facts.timezone()}")
    else:
        yield Check(
            "clock",
            "warn",
            "no time service steers it",
            "apt-get install systemd-timesyncd or chrony: tickets and certificates depend on the time.",
        )


def _port(layout: Layout, port: int) -> Checks:
    if abilities.pid_of_daemon(layout.pid_file) is not None:
        yield Check("daemon", "ok", "it runs")
    elif abilities.port_is_taken(port):
        yield Check(
            "port", "fail", f"another program listens on port {port}", "Give `bastide up` another one with --port."
        )
    else:
        yield Check("port", "ok", f"{port} is free")


def _nearest(path: Path) -> Path:
    """The path, or the nearest folder above it that exists."""
    while not path.exists():
        path = path.parent
    return path
