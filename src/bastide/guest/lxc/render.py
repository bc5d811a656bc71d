"""A container's plan as the text of LXC's configuration file (lxc.container.conf(5)). Pure: no look at the machine.

The file stands alone: nothing is included from the host's LXC, so that a distribution's defaults cannot change what a
guest may do. Every value goes through `_Lines.add`, which refuses whatever could end a line or begin another key.
"""

import re
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path

from bastide.base.errors import InvalidParameter, NotSupported
from bastide.guest.lxc.host import HostFeatures
from bastide.guest.lxc.limits import limit_files
from bastide.guest.protocol import ContainerPlan
from bastide.model.container import ContainerConfig, NetworkInterface
from bastide.model.record import forbidden_character

_KEY = re.compile(r"lxc\.[a-z0-9_.-]+", re.ASCII)
_ARCHITECTURES = {
    "amd64": "x86_64", "i386": "i686", "arm64": "aarch64", "armhf": "armv7l", "riscv32": "riscv32",
    "riscv64": "riscv64",
}  # fmt: skip
# What LXC's own common.conf allows: making any node (useless without the next lines), and the harmless ones.
_DEVICES = (
    "c *:* m", "b *:* m", "c 1:3 rwm", "c 1:5 rwm", "c 1:7 rwm", "c 1:8 rwm", "c 1:9 rwm", "c 5:0 rwm", "c 5:1 rwm",
    "c 5:2 rwm", "c 136:* rwm",
)  # fmt: skip
_FUSE = "c 10:229 rwm"
# systemd hands a service its credentials through a small file system, made aside and moved into place
# (systemd.exec(5)); in a privileged container it does not go on without.
_CREDENTIALS = (
    "mount options=(rw, make-rslave) -> /dev/,",
    "mount fstype=ramfs -> /dev/shm/,",
    "remount /dev/shm/,",
    "mount options=(rw, move) /dev/shm/ -> /run/credentials/**,",
)
# It gives networkd and logind a /proc of their own. The kernel lets no user namespace have one that shows more than
# what it sees already, and systemd takes that; AppArmor's refusal it does not. Not for a privileged guest's root.
_OWN_PROC = "mount fstype=proc -> /run/systemd/unit-root/proc/,"
# A privileged container's root is the host's: it loses what reaches beyond its namespaces.
_DROPPED = ("mac_admin", "mac_override", "sys_time", "sys_module", "sys_rawio")


class _Lines:
    """Lines of the file under construction."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def add(self, key: str, value: object) -> None:
        """One `key = value` line. Raises InvalidParameter for a character that could begin another line."""
        text = str(value)
        char = forbidden_character(text)
        if _KEY.fullmatch(key) is None or char is not None:
            raise InvalidParameter({key[:60]: f"character {char} is not allowed in a container's configuration"})
        if text != text.strip():
            raise InvalidParameter({key: f"'{text[:60]}' begins or ends with a space"})
        self._lines.append(f"{key} = {text}")

    def each(self, key: str, values: Iterable[object]) -> None:
        """One line a value."""
        for value in values:
            self.add(key, value)

    def text(self) -> str:
        """The whole file."""
        return "\n".join([*self._lines, ""])


def render_config(
    plan: ContainerPlan,
    host: HostFeatures,
    *,
    instance: str,
    rootfs: Path,
    seccomp: Path,
    cpus: Sequence[int] = (),
    hook: Sequence[str] = (),
    devices: Sequence[str] = (),
) -> str:
    """The configuration file of a container.

    `instance` names its cgroups, `rootfs` is where its root file system is mounted, `seccomp` its system call filter,
    `hook` is the command that is run before its init to attach mounts and devices, `cpus` are the CPUs it may use
    (none: all), `devices` are rules such as `c 10:200 rw`. Raises InvalidParameter for a value that cannot stand in the
    file, NotSupported for what this host cannot do.
    """
    lines = _Lines()
    config = plan.config
    _refuse_unsupported(plan)
    lines.add("lxc.uts.name", config.hostname or f"CT{plan.vmid}")
    if config.arch is not None:
        lines.add("lxc.arch", _ARCHITECTURES[config.arch])
    _root(lines, plan, rootfs)
    _cgroup_places(lines, plan.vmid, instance)
    _limits(lines, config, host, cpus, devices)
    _security(lines, plan, host, seccomp)
    _terminals(lines, config)
    _file_systems(lines, plan, host)
    for index in sorted(config.net):
        _interface(lines, index, config.net[index], plan.interfaces[index])
    if not config.net:
        lines.add("lxc.net.0.type", "empty")
    _init(lines, config)
    if hook:
        _refuse_shell_characters(hook)
        lines.add("lxc.hook.start-host", " ".join(hook))
    return lines.text()


def _refuse_unsupported(plan: ContainerPlan) -> None:
    features = plan.config.features
    if features is not None and features.mknod:
        raise NotSupported("features: mknod needs a system call broker that this version does not have")


def _refuse_shell_characters(command: Sequence[str]) -> None:
    """LXC hands a hook's line to a shell."""
    for word in command:
        if shlex.quote(word) != word:
            raise NotSupported(f"mount points need a --root and a Python without spaces and quotes, not '{word}'")


def _root(lines: _Lines, plan: ContainerPlan, rootfs: Path) -> None:
    # The folder is mounted with its owners and options already: LXC would forget options at a guest's reboot.
    lines.add("lxc.rootfs.path", f"dir:{rootfs}")
    if plan.idmap is not None:
        for kind in "ug":
            lines.add("lxc.idmap", f"{kind} 0 {plan.idmap.first} {plan.idmap.count}")


def _cgroup_places(lines: _Lines, vmid: int, instance: str) -> None:
    lines.add("lxc.cgroup.dir.monitor", f"{instance}/monitor-{vmid}")
    lines.add("lxc.cgroup.dir.container", f"{instance}/{vmid}")
    # The guest sees and writes the inner group only; limits sit on the outer one.
    lines.add("lxc.cgroup.dir.container.inner", "ns")


def _limits(
    lines: _Lines, config: ContainerConfig, host: HostFeatures, cpus: Sequence[int], devices: Sequence[str]
) -> None:
    prefix = "lxc.cgroup" if host.cgroup == 1 else "lxc.cgroup2"
    features = config.features
    lines.add(f"{prefix}.devices.deny", "a")
    lines.each(f"{prefix}.devices.allow", _DEVICES)
    if features is not None and features.fuse:
        lines.add(f"{prefix}.devices.allow", _FUSE)
    lines.each(f"{prefix}.devices.allow", devices)
    lines.add(f"{prefix}.pids.max", host.process_limit)
    for file in limit_files(config, host.cgroup, swap_accounting=host.swap_accounting):
        lines.add(f"{prefix}.{file.name}", file.value)
    if cpus:
        lines.add(f"{prefix}.cpuset.cpus", ",".join(str(cpu) for cpu in cpus))


def _security(lines: _Lines, plan: ContainerPlan, host: HostFeatures, seccomp: Path) -> None:
    features = plan.config.features
    nesting = features is not None and bool(features.nesting)
    lines.add("lxc.seccomp.profile", seccomp)
    if nesting:
        lines.add("lxc.seccomp.allow_nesting", 1)
    if plan.idmap is None:
        lines.add("lxc.cap.drop", " ".join(_DROPPED))
    if not host.apparmor:
        return
    lines.add("lxc.apparmor.profile", "generated")
    lines.add("lxc.apparmor.allow_nesting", int(nesting))
    if not nesting:
        lines.each("lxc.apparmor.raw", _CREDENTIALS)
        if plan.idmap is not None:
            lines.add("lxc.apparmor.raw", _OWN_PROC)
    for kind in (features.mount or "").replace(";", " ").split() if features is not None else ():
        if re.fullmatch(r"[a-zA-Z0-9_]+", kind, re.ASCII) is None:
            raise InvalidParameter({"features": f"'{kind[:40]}' is not a file system type"})
        lines.add("lxc.apparmor.raw", f"mount fstype={kind},")


def _terminals(lines: _Lines, config: ContainerConfig) -> None:
    lines.add("lxc.tty.max", config.tty_count)
    lines.add("lxc.pty.max", 1024)
    if config.console is False:
        lines.add("lxc.console.path", "none")


def _file_systems(lines: _Lines, plan: ContainerPlan, host: HostFeatures) -> None:
    features = plan.config.features
    nesting = features is not None and bool(features.nesting)
    # With a writable /sys systemd takes devices for udev's to announce: without udev its networkd waits for ever.
    writable = features is not None and bool(features.force_rw_sys)
    # A user namespace may mount proc anew only where an uncovered one is seen; the host's root needs none, and what is
    # covered protects the host from it.
    nesting = nesting and plan.idmap is not None
    proc, sys = "rw" if nesting else "mixed", "rw" if writable else "mixed"
    lines.add("lxc.mount.auto", f"proc:{proc} sys:{sys} cgroup:{proc}")
    if nesting and not host.apparmor:
        # A guest may mount proc and sysfs anew only where an uncovered instance of each exists already.
        # With AppArmor's nesting LXC adds these lines itself.
        lines.add("lxc.mount.entry", "proc dev/.lxc/proc proc create=dir,optional 0 0")
        lines.add("lxc.mount.entry", "sys dev/.lxc/sys sysfs create=dir,optional 0 0")
    if features is not None and features.fuse:
        lines.add("lxc.mount.entry", "/dev/fuse dev/fuse none bind,create=file,optional 0 0")
    if host.lxcfs is None:
        return
    for name in host.lxcfs_files:
        lines.add("lxc.mount.entry", f"{_octal(host.lxcfs)}/proc/{name} proc/{name} none bind,optional 0 0")
    if host.lxcfs_cpu:
        place = "sys/devices/system/cpu"
        lines.add("lxc.mount.entry", f"{_octal(host.lxcfs)}/{place} {place} none bind,optional 0 0")


def _octal(path: Path) -> str:
    """A path as fstab(5) writes it: white space and backslashes as octal numbers."""
    return re.sub(r"[\s\\#]", lambda match: f"\\{ord(match[0]):03o}", str(path))


def _interface(lines: _Lines, index: int, nic: NetworkInterface, host_end: str) -> None:
    prefix = f"lxc.net.{index}"
    lines.add(f"{prefix}.type", "veth")
    lines.add(f"{prefix}.veth.pair", host_end)
    lines.add(f"{prefix}.name", nic.name)
    if nic.hwaddr is not None:
        lines.add(f"{prefix}.hwaddr", nic.hwaddr)
    if nic.mtu is not None:
        lines.add(f"{prefix}.mtu", nic.mtu)
    if nic.host_managed:
        _addresses(lines, index, nic)
    plain = nic.tag is None and nic.trunks is None and not nic.firewall and not nic.rate
    if nic.bridge is not None and plain and not nic.link_down:
        # In the bridge before init runs: its first DHCP request is heard. Anything else waits for its set-up.
        lines.add(f"{prefix}.link", nic.bridge)


def _addresses(lines: _Lines, index: int, nic: NetworkInterface) -> None:
    """Addresses that LXC sets itself: the guest has nothing that could (an application without an init system)."""
    prefix = f"lxc.net.{index}"
    for key, address, gateway in (("ipv4", nic.ip, nic.gw), ("ipv6", nic.ip6, nic.gw6)):
        if address in ("dhcp", "auto"):
            raise NotSupported(
                f"net{index}: host-managed needs a static address, not {'ip' if key == 'ipv4' else 'ip6'}={address}"
            )
        if address is not None and "/" in address:
            lines.add(f"{prefix}.{key}.address", address)
            if gateway is not None:
                lines.add(f"{prefix}.{key}.gateway", gateway)
    lines.add(f"{prefix}.flags", "up")


def _init(lines: _Lines, config: ContainerConfig) -> None:
    if config.entrypoint is not None:
        lines.add("lxc.init.cmd", config.entrypoint)
    for pair in (config.env or "").split("\0"):
        if pair:
            name, equals, _value = pair.partition("=")
            if not equals or re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name, re.ASCII) is None:
                raise InvalidParameter({"env": f"'{pair[:40]}' is not NAME=VALUE"})
            lines.add("lxc.environment", pair)
