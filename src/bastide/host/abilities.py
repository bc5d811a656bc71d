"""What this kernel can do, found out by asking it. Nothing is left behind and no process is started.

Sources: cgroups(7), netlink(7), rtnetlink(7), linux/netfilter/nf_tables.h, ioctl_ficlonerange(2), adjtimex(2),
`Documentation/ABI/testing/sysfs-kernel-iommu_groups`, proc(5).
"""

import contextlib
import ctypes
import errno
import os
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from bastide.host import syscalls
from bastide.host.facts import processors
from bastide.host.filesystems import mounts

T = TypeVar("T")

CGROUPS = Path("/sys/fs/cgroup")
_TIME_ERROR = 5
_NLM_REQUEST_ACK = 0x1 | 0x4
_NLM_CREATE_EXCL = 0x400 | 0x200
_RTM_NEWLINK = 16
_IFLA_LINKINFO = 18
_IFLA_INFO_KIND = 1
_NETLINK_NETFILTER = 12
_NFT_GETGEN = (10 << 8) | 16
_ERROR_ANSWER = 2
_KVM = "/dev/kvm"
_VIRTUAL_BY_DESIGN = ("aarch64", "riscv64")  # their /proc/cpuinfo has no flag for it


@dataclass(frozen=True, slots=True)
class Cgroups:
    """The control groups: `v2` alone, `hybrid` (v2 beside v1 controllers), `v1`, or `none`; and the controllers."""

    version: Literal["v2", "hybrid", "v1", "none"]
    controllers: frozenset[str]


def cgroups() -> Cgroups:
    """The control groups that are mounted here."""
    entries = [entry for entry in mounts() if entry.fstype in ("cgroup", "cgroup2")]
    first = [option for entry in entries if entry.fstype == "cgroup" for option in entry.options]
    kinds = {entry.fstype for entry in entries}
    if kinds == {"cgroup2"}:
        with contextlib.suppress(OSError):
            root = next(entry.target for entry in entries)
            return Cgroups("v2", frozenset((root / "cgroup.controllers").read_text().split()))
    known = {"cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids", "net_cls", "hugetlb"}
    controllers = frozenset(first) & known
    if not kinds:
        return Cgroups("none", frozenset())
    return Cgroups("hybrid" if len(kinds) == 2 else "v1", controllers)


def kvm_refusal() -> str | None:
    """Why guests cannot run on the processor itself, as the end of a sentence, or None when they can.

    A /dev/kvm alone is not enough: where the processor shows neither vmx nor svm, stock guests hang in it.
    """
    refusal = _device_refusal(_KVM)
    able = os.uname().machine in _VIRTUAL_BY_DESIGN or processors().virtualization
    if refusal is None:
        if not able:
            return "/dev/kvm is there, but the processor shows neither vmx nor svm"
        return None if _is_for_users(_KVM) else "/dev/kvm is root's alone, and virtual machines do not run as root"
    return (
        f"{refusal}, though the processor could" if able else f"{refusal}, and the processor shows neither vmx nor svm"
    )


def kvm_group() -> int | None:
    """The group that a process needs to open /dev/kvm, or None when everybody may."""
    status = os.stat(_KVM)
    return None if status.st_mode & 0o006 == 0o006 else status.st_gid


def _is_for_users(device: str) -> bool:
    status = os.stat(device)
    return status.st_mode & 0o006 == 0o006 or (status.st_mode & 0o060 == 0o060 and status.st_gid != 0)


def _device_refusal(device: str) -> str | None:
    try:
        os.close(os.open(device, os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        return f"there is no {device}"
    except OSError as error:
        return f"{device} cannot be opened ({error.strerror})"
    return None


def link_refusal(kind: str) -> str | None:
    """Why an interface of this kind (`bridge`, `veth`) cannot be made, or None when it can. Needs root.

    It is made in a network namespace that ends with the question.
    """

    def make() -> str | None:
        syscalls.unshare(syscalls.CLONE_NEWNET)
        info = _attribute(_IFLA_LINKINFO, _attribute(_IFLA_INFO_KIND, kind.encode()))
        body = struct.pack("=BxHiII", socket.AF_UNSPEC, 0, 0, 0, 0) + info
        return _ask(socket.NETLINK_ROUTE, _RTM_NEWLINK, _NLM_REQUEST_ACK | _NLM_CREATE_EXCL, body)

    return _in_thread(make)


def nftables_refusal() -> str | None:
    """Why the kernel's nf_tables cannot be used, or None when it can. Needs root."""

    def ask() -> str | None:
        syscalls.unshare(syscalls.CLONE_NEWNET)
        return _ask(_NETLINK_NETFILTER, _NFT_GETGEN, _NLM_REQUEST_ACK, struct.pack("=BBH", 0, 0, 0))

    return _in_thread(ask)


def _in_thread(question: Callable[[], str | None]) -> str | None:
    """Ask in a thread of its own, which takes its changed namespace with it when it ends."""
    answer: list[str | None] = ["it did not answer"]

    def run() -> None:
        try:
            answer[0] = question()
        except OSError as error:
            answer[0] = error.strerror or str(error)

    thread = threading.Thread(target=run, daemon=True, name="question")
    thread.start()
    thread.join(10)
    return answer[0]


def _attribute(kind: int, value: bytes) -> bytes:
    size = 4 + len(value)
    return struct.pack("=HH", size, kind) + value + bytes(-size % 4)


def _ask(family: int, kind: int, flags: int, body: bytes) -> str | None:
    """Send a netlink request and read the answer: None for success, else the error's text."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, family) as link:
        link.settimeout(5)
        link.bind((0, 0))
        link.send(struct.pack("=IHHII", 16 + len(body), kind, flags, 1, 0) + body)
        answer = link.recv(8192)
    if struct.unpack_from("=IH", answer)[1] != _ERROR_ANSWER:
        return None
    code = -struct.unpack_from("=i", answer, 16)[0]
    return os.strerror(code) if code else None


def knows_filesystem(name: str) -> bool:
    """Whether the kernel has this file system, built in, loaded, or as a module on disk."""
    with contextlib.suppress(OSError):
        if name in Path("/proc/filesystems").read_text().split():
            return True
    return module_is_there(name)


def module_is_there(name: str) -> bool:
    """Whether the kernel's module lies on disk, where it can be loaded from."""
    modules = Path("/lib/modules") / os.uname().release
    with contextlib.suppress(OSError):
        return f"/{name}.ko" in (modules / "modules.dep").read_text()
    return False


def clock_is_synchronized() -> bool:
    """Whether a time service steers the clock."""
    buffer = ctypes.create_string_buffer(512)  # struct timex, 208 bytes on 64 bits; modes = 0 only reads
    return bool(ctypes.CDLL(None).adjtimex(buffer) not in (-1, _TIME_ERROR))


def iommu_advice() -> str:
    """How to get an IOMMU on a machine like this."""
    option = "amd_iommu=on" if processors().vendor == "AuthenticAMD" else "intel_iommu=on"
    return f"Switch on VT-d or AMD-Vi in the machine's firmware and put {option} on the kernel's command line."


def iommu_groups() -> int:
    """Number of IOMMU groups; 0 without an IOMMU."""
    try:
        return len(os.listdir("/sys/kernel/iommu_groups"))
    except OSError:
        return 0


def nested_virtualization(modules: Path = Path("/sys/module")) -> bool:
    """Whether KVM lets guests run guests of their own. Source: the parameter `nested` of kvm_intel and kvm_amd."""
    for name in ("kvm_intel", "kvm_amd"):
        with contextlib.suppress(OSError):
            return (modules / name / "parameters/nested").read_text().strip() in ("Y", "1")
    return False


def render_nodes(folder: Path = Path("/dev/dri")) -> tuple[str, ...]:
    """The DRI render nodes of the host's graphics processors: `/dev/dri/renderD128` ..."""
    return tuple(sorted(str(path) for path in folder.glob("renderD*")))


def lxc_version() -> str | None:
    """The version of liblxc, or None when it is not installed."""
    try:
        library = ctypes.CDLL("liblxc.so.1")
    except OSError:
        return None
    library.lxc_get_version.restype = ctypes.c_char_p
    return str(library.lxc_get_version().decode())


def port_is_taken(port: int) -> bool:
    """Whether some process listens on this TCP port, on any address."""
    for name in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in Path("/proc/net", name).read_text().splitlines()[1:]:
                _, local, _, state, *_ = line.split()
                if state == "0A" and int(local.rpartition(":")[2], 16) == port:
                    return True
    return False


def pid_of_daemon(pid_file: Path) -> int | None:
    """The process in a pid file if it lives."""
    try:
        pid = int(pid_file.read_text())
        os.kill(pid, 0)
    except (OSError, ValueError) as error:
        return pid if isinstance(error, OSError) and error.errno == errno.EPERM else None
    return pid
