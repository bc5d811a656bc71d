"""The process that speaks to the world, as if it had been taken over: what it can read, reach and pretend.

System calls are made inside the real process of a real daemon (`framework/inject.py`). Each wall was taken out once:
without `allow_only` in `web/walls.py` the calls that make sockets, processes and code succeed; without `seclude` it is
root, sees the host's files and its processes.
"""

import contextlib
import ctypes
import errno
import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from framework import inject
from framework.host import Host
from framework.patience import PATIENCE
from framework.web import web_pid

pytestmark = pytest.mark.system

_USER = "65532"
_AT_FDCWD = -100
# Of x86-64 (asm/unistd_64.h).
_GETPID, _GETUID = 39, 102
_OPENAT, _OPEN, _STAT = 257, 2, 4
_REFUSED = {
    "socket(AF_INET)": (41, socket.AF_INET, socket.SOCK_STREAM, 0),
    "socket(AF_UNIX)": (41, socket.AF_UNIX, socket.SOCK_STREAM, 0),
    "socket(AF_NETLINK)": (41, socket.AF_NETLINK, socket.SOCK_RAW, 0),
    "connect": (42, 0, b"\x01\x00/run", 6),
    "bind": (49, 0, b"\x01\x00/run", 6),
    "execve": (59, b"/bin/sh", 0, 0),
    "execveat": (322, _AT_FDCWD, b"/bin/sh", 0, 0, 0),
    "fork": (57,),
    "clone": (56, signal.SIGCHLD, 0, 0, 0, 0),
    "clone3": (435, b"\0" * 88, 88),
    "mount": (165, b"none", b"/", b"tmpfs", 0, 0),
    "umount2": (166, b"/", 2),
    "unshare(user)": (272, 0x10000000),
    "setns": (308, 0, 0),
    "pivot_root": (155, b".", b"."),
    "chroot": (161, b"/"),
    "ptrace": (101, 0x4206, 1, 0, 0),
    "process_vm_readv": (310, 1, 0, 0, 0, 0, 0),
    "pidfd_open": (434, 1, 0),
    "kill(everybody)": (62, -1, signal.SIGKILL),
    "tgkill": (234, 1, 1, signal.SIGKILL),
    "setuid": (105, 0),
    "setresuid": (117, 0, 0, 0),
    "prctl(PR_SET_DUMPABLE)": (157, 4, 1, 0, 0, 0),
    "prlimit": (302, 0, 7, 0, 0),
    "memory that is code": (9, 0, 4096, 7, 0x22, -1, 0),
    "bpf": (321, 0, 0, 0),
    "io_uring_setup": (425, 8, b"\0" * 120),
    "perf_event_open": (298, 0, 0, -1, -1, 0),
    "userfaultfd": (323, 0),
    "keyctl": (250, 0, -3, 0, 0, 0),
    "memfd_create": (319, b"x", 0),
    "open_by_handle_at": (304, _AT_FDCWD, 0, 0),
    "init_module": (175, 0, 0, 0),
    "ioctl(TIOCSTI)": (16, 0, 0x5412, b"x"),
    "shmget": (29, 1, 4096, 0o1600),
}


@pytest.fixture
def web(host: Host) -> int:
    """The process id of the web process: the one behind the walls."""
    return web_pid(host)


@pytest.fixture
def remote(host: Host) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"https://127.0.0.1:{host.port}/api2/json", verify=False, timeout=30 * PATIENCE) as made:
        yield made


def test_it_has_no_right_and_sees_nothing_of_the_host(web: int) -> None:
    status = dict(
        line.split(":\t", 1) for line in Path(f"/proc/{web}/status").read_text().splitlines() if ":\t" in line
    )
    assert status["Uid"].split() == status["Gid"].split() == [_USER] * 4
    assert status["Groups"].strip() == ""
    assert {status[f"Cap{which}"] for which in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {"0" * 16}
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    assert status["NSpid"].split()[-1] == "1"
    for kind in ("mnt", "net", "ipc", "uts", "pid"):
        assert os.readlink(f"/proc/{web}/ns/{kind}") != os.readlink(f"/proc/self/ns/{kind}"), kind
    assert os.listdir(f"/proc/{web}/root/") == []
    assert len(Path(f"/proc/{web}/net/dev").read_text().splitlines()) == 3, "its own loopback alone, which is down"


def test_it_holds_sockets_and_no_file(host: Host, web: int) -> None:
    held = {os.readlink(f"/proc/{web}/fd/{name}") for name in os.listdir(f"/proc/{web}/fd")}
    strange = {name for name in held if not name.startswith(("socket:", "pipe:", "anon_inode:[event"))}
    assert strange <= {"/dev/null"}
    environment = Path(f"/proc/{web}/environ").read_bytes().decode()
    assert {line.partition("=")[0] for line in environment.split("\0") if line} <= {
        *("PATH", "LC_ALL", "HOME", "PYTHONPATH"),
    }
    memory = Path(f"/proc/{web}/maps").read_text()
    assert "bastide.db" not in memory


def test_code_in_it_reaches_nothing(host: Host, web: int, remote: httpx.Client) -> None:
    assert remote.get("/version").status_code == 401
    files = ["/etc/shadow", "/proc/1/environ", "/proc/self/environ", "/usr/bin/true", "/dev/null", "/"]
    files += [str(path) for path in (host.root / "state").iterdir()] + [str(host.root / "run/api.sock")]
    assert any(name.endswith("bastide.db") for name in files)
    assert (inject.call(web, _GETPID), inject.call(web, _GETUID)) == (1, int(_USER)), "the injection itself works"
    opened = {name: inject.call(web, _OPENAT, _AT_FDCWD, name.encode(), os.O_RDONLY, 0) for name in files}
    opened |= {f"old {name}": inject.call(web, _OPEN, name.encode(), os.O_RDONLY, 0) for name in files}
    results = {name: inject.call(web, *call) for name, call in _REFUSED.items()}
    assert set(opened.values()) == {-errno.ENOENT}
    assert {name: result for name, result in results.items() if result != -errno.EPERM} == {}
    assert remote.get("/version").status_code == 401, "it serves on"
    assert web_pid(host) == web


def test_it_cannot_say_who_asks(host: Host) -> None:
    """What a head could claim besides is no user: headers that proxies set, fields of its own, and root's mark."""
    claims = {
        "X-Forwarded-For": "127.0.0.1",
        "X-Forwarded-User": "root@pam",
        "bastide.local": "1",
        "Forwarded": "for=::1",
    }
    with httpx.Client(base_url=f"https://127.0.0.1:{host.port}/api2/json", verify=False, headers=claims) as client:
        assert client.get("/access/users").status_code == 401


def test_a_killed_one_is_replaced_and_tasks_go_on(host: Host, remote: httpx.Client, web: int) -> None:
    assert remote.get("/version").status_code == 401
    daemon = host.get("/bastide/status")["pid"]
    began = time.monotonic()
    os.kill(web, signal.SIGKILL)
    while True:
        with contextlib.suppress(httpx.TransportError):
            if remote.get("/version").status_code == 401:
                break
        assert time.monotonic() - began < 30 * PATIENCE
    took = time.monotonic() - began
    assert web_pid(host) != web
    assert host.get("/bastide/status")["pid"] == daemon
    assert took < 10 * PATIENCE, f"{took:.1f} s"


def test_small_answers_are_not_held_back(host: Host, web: int) -> None:
    """TCP_NODELAY (tcp(7)), which asyncio sets only on sockets that know their protocol."""
    with socket.create_connection(("127.0.0.1", host.port)) as connection:
        port = connection.getsockname()[1]
        deadline = time.monotonic() + 10 * PATIENCE
        found: list[int] = []
        while not found and time.monotonic() < deadline:
            found = list(_nodelay(web, port))
            time.sleep(0.05)
    assert found == [1]


def _nodelay(pid: int, port: int) -> Iterator[int]:
    """TCP_NODELAY of a process's connection to a port, by copies of its descriptors (pidfd_getfd(2))."""
    libc = ctypes.CDLL(None, use_errno=True)
    handle = os.pidfd_open(pid)
    try:
        for name in os.listdir(f"/proc/{pid}/fd"):
            copy = libc.syscall(438, handle, int(name), 0)
            if copy < 0:
                continue
            with contextlib.suppress(OSError), socket.socket(fileno=copy) as connection:
                if connection.family in (socket.AF_INET, socket.AF_INET6) and connection.getpeername()[1] == port:
                    yield connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    finally:
        os.close(handle)


def test_what_it_writes_becomes_no_line_of_the_daemons_log(host: Host, web: int) -> None:
    """Its standard error is a pipe: the daemon writes it down as what the web process says."""
    assert os.readlink(f"/proc/{web}/fd/2").startswith("pipe:")
    text = b"2026-01-01 ERROR bastide: forged\x1b[2J\n"
    assert inject.call(web, 1, 2, text, len(text)) == len(text)
    deadline = time.monotonic() + 10 * PATIENCE
    while "forged" not in host.daemon_log() and time.monotonic() < deadline:
        time.sleep(0.05)
    line = next(line for line in host.daemon_log().splitlines() if "forged" in line)
    assert "the web process says: 2026-01-01 ERROR bastide: forged?[2J" in line
    assert json.dumps(line).count("\\u001b") == 0
