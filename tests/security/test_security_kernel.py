"""The kernel as a container's root sees it: attack class 34."""

import platform
import re
from collections.abc import Iterator

import pytest

from framework.host import Host
from framework.sockets import execute

pytestmark = pytest.mark.system

# socket(AF_ALG), add_key, keyctl, kexec_load, init_module, finit_module, bpf, perf_event_open, open_by_handle_at,
# io_uring_setup, userfaultfd; the 64-bit numbers of unistd_64.h and of the generic table.
CALLS = {
    "x86_64": {"socket": 41, "add_key": 248, "keyctl": 250, "kexec_load": 246, "init_module": 175, "finit_module": 313,
               "bpf": 321, "perf_event_open": 298, "open_by_handle_at": 304, "io_uring_setup": 425, "userfaultfd": 323,
               "kexec_file_load": 320, "delete_module": 176, "swapon": 167, "acct": 163},
    "aarch64": {"socket": 198, "add_key": 217, "keyctl": 219, "kexec_load": 104, "init_module": 105,
                "finit_module": 273, "bpf": 280, "perf_event_open": 241, "open_by_handle_at": 265,
                "io_uring_setup": 425, "userfaultfd": 282, "kexec_file_load": 294, "delete_module": 106, "swapon": 224,
                "acct": 89},
}  # fmt: skip
# A call that reaches the kernel answers EFAULT, EINVAL, EBADF, ENOKEY or a descriptor to these arguments.
PROBE = """
my %calls = (CALLS);
for my $name (sort keys %calls) {
    my @arguments = $name eq 'socket' ? (38, 5, 0) : $name eq 'keyctl' ? (0, -3, 0, 0, 0) : (0, 0, 0, 0, 0);
    $! = 0;
    my $answer = syscall($calls{$name}, @arguments);
    print "$name ", $answer >= 0 ? 'done' : $! + 0, "\\n";
}
"""


@pytest.fixture(scope="module")
def probed(host: Host) -> Iterator[int]:
    """A running Debian container as they are made."""
    vmid = host.create(start=True, hostname="probe", memory=256)
    yield vmid
    host.remove(vmid)


def test_the_kernels_dangerous_doors_are_shut(host: Host, probed: int) -> None:
    """Without the system call filter this fails: the kernel itself gives most of these calls another answer."""
    vmid = probed
    calls = CALLS[platform.machine()]
    text = PROBE.replace("CALLS", ", ".join(f"{name} => {number}" for name, number in calls.items()))
    code, out, err = execute(host, vmid, "perl", "-e", text)
    assert code == 0, err
    answers = dict(line.split() for line in out.decode().splitlines())
    allowed = {"socket": {"97"}, "io_uring_setup": {"38"}, "add_key": {"38"}, "keyctl": {"38"}}
    assert {name: told for name, told in answers.items() if told not in allowed.get(name, {"1"})} == {}
    written = (
        "/proc/sysrq-trigger", "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sys/kernel/sysrq",
        "/proc/sys/vm/drop_caches", "/proc/sys/fs/binfmt_misc/register", "/sys/kernel/uevent_helper",
    )  # fmt: skip
    read = ("/proc/kcore", "/proc/kmsg", "/dev/kmsg", "/dev/mem")
    script = "".join(f"(echo 0 > {path}) 2>/dev/null && echo OPEN {path}\n" for path in written)
    script += "".join(f'[ -n "$(head -c1 {path} 2>/dev/null)" ] && echo OPEN {path}\n' for path in read)
    assert execute(host, vmid, "timeout", "10", "sh", "-c", script)[1] == b""
    mounts = (
        "for t in debugfs securityfs tracefs; do mount -t $t none /mnt 2>/dev/null; grep ' /mnt ' /proc/mounts; "
        "umount /mnt 2>/dev/null; done"
    )
    seen = execute(host, vmid, "sh", "-c", mounts)[1]
    assert not re.search(rb"debugfs|securityfs|tracefs", seen)
    addresses = (
        "grep -v '^0*0 ' /proc/kallsyms | head -c 1; "
        "find /sys/kernel/debug /sys/kernel/security /sys/kernel/tracing -mindepth 1 2>/dev/null | head -c 1"
    )
    assert execute(host, vmid, "sh", "-c", addresses)[1] == b""


# Every call in a process of its own, all at once, which a second ends: with arguments that no call takes, so that only
# who may not make the call at all is told so. Left out is what would end the guest's other processes, or make more.
SWEEP = """
my %out = map { $_ => 1 } (OUT);
my %told;
for my $number (0 .. 470) {
    next if $out{$number};
    pipe($told{$number}, my $writer);
    if (!fork()) {
        alarm 1;
        $! = 0;
        my $answer = syscall($number, -1, -1, -1, -1, -1, -1);
        syswrite $writer, $answer >= 0 ? 'done' : $! + 0;
        kill 'KILL', $$;
    }
}
for my $number (sort keys %told) {
    sysread $told{$number}, my $answer, 16;
    print "$number ", $answer || 'silent', "\\n";
}
"""
# kill, reboot, tkill, tgkill, rt_sigqueueinfo, rt_tgsigqueueinfo, pidfd_send_signal; clone, fork, vfork, clone3.
OUT = {
    "x86_64": (62, 169, 200, 234, 129, 297, 424, 56, 57, 58, 435),
    "aarch64": (129, 142, 130, 131, 138, 240, 424, 220, 435),
}
BPF = {"x86_64": 321, "aarch64": 280}


def swept(host: Host, vmid: int) -> dict[int, str]:
    """What each system call answers in a guest."""
    text = SWEEP.replace("OUT", ", ".join(map(str, OUT[platform.machine()])))
    code, out, err = execute(host, vmid, "perl", "-e", text)
    assert code == 0, err
    return {int(number): told for number, told in (line.split() for line in out.decode().splitlines())}


def test_nesting_opens_one_door_more(host: Host, probed: int) -> None:
    """Every system call there is, with and without `nesting`: bpf(2) alone differs (docs/network.md says the rest).

    Without the filter's list this fails: the calls on it answer as the kernel pleases.
    """
    plain = swept(host, probed)
    denied = {number for name, number in CALLS[platform.machine()].items() if name != "socket"}
    assert {number: plain[number] for number in denied if plain[number] not in ("1", "38")} == {}
    nested = host.create(start=True, hostname="nested", memory=256, features="nesting=1")
    inside = swept(host, nested)
    host.remove(nested)
    unsure = {number for found in (plain, inside) for number, told in found.items() if told == "silent"}
    assert {number for number in plain if plain[number] != inside[number]} - unsure <= {BPF[platform.machine()]}


VSOCK = """
for my $family (38, 40) { print syscall(SOCKET, $family, 1, 0) >= 0 ? 'done' : $! + 0, ' ' }
"""


def test_sockets_that_know_no_network_namespace_are_shut(host: Host, probed: int) -> None:
    """AF_ALG and AF_VSOCK. Without their lines in the filter this fails where the kernel has them."""
    text = VSOCK.replace("SOCKET", str(CALLS[platform.machine()]["socket"]))
    assert execute(host, probed, "perl", "-e", text)[1].split() == [b"97", b"97"]
