"""A hostile guest: what its root can see and touch.

Attack classes 7 (races of links), 8 (what leaks into a command), 26 (what a guest leaves to the next), 35
(id ranges) and 37 (modes of what the daemon writes).
"""

import concurrent.futures
import hashlib
import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from framework.evil import Canary, canary, put_template, root_of, try_create
from framework.host import ApiFailure, Host
from framework.roots import busybox_tar
from framework.sockets import execute, opened

pytestmark = pytest.mark.system


def small(host: Host, **options: object) -> int:
    """A running busybox guest."""
    vmid, told = try_create(host, put_template(host, "small", busybox_tar()), **options)
    assert vmid is not None, told
    host.act(vmid, "start")
    return vmid


@pytest.fixture(scope="module")
def box(host: Host) -> Iterator[int]:
    """A running busybox guest."""
    vmid = small(host)
    yield vmid
    host.wait(host.delete(host.path(vmid), force=1))


@pytest.fixture
def bird() -> Iterator[Canary]:
    """A canary that must be as it was when the test ends."""
    with canary() as made:
        yield made
        made.check()


# 8


def test_a_command_sees_nothing_of_the_host(host: Host, box: int) -> None:
    look = (
        "ls -l /proc/self/fd /proc/$$/fd /proc/1/fd; readlink /proc/self/cwd; readlink /proc/$$/exe; env; "
        "cat /proc/1/environ"
    )
    for tty in (0, 1):
        code, out, _ = execute(host, box, "sh", "-c", look, tty=tty)
        text = out.decode(errors="replace")
        assert code == 0, text
        for word in (
            str(host.root),
            str(Path.cwd()),
            "BASTIDE",
            "PYTHON",
            "python",
            "memfd",
            "socket:",
            "lxc-",
            ".sock",
        ):
            assert word not in text, (word, text)
        links = re.findall(r" -> (\S+)", text)
        assert links
        inside = re.compile(r"/dev/(null|console|pts/\d+|tty\d*)|pipe:\[\d+\]|/proc/\d+/fd|/|anon_inode:\S+")
        assert [link for link in links if not inside.fullmatch(link)] == []


def test_a_program_that_is_its_own_interpreter_gets_no_hold_of_the_hosts(host: Host, box: int) -> None:
    programs = [
        Path(sys.executable).resolve(),
        Path("/usr/bin/lxc-attach"),
        Path("/usr/sbin/init"),
        Path("/bin/sh").resolve(),
    ]
    before = [hashlib.sha256(path.read_bytes()).digest() for path in programs if path.exists()]
    evil = (
        "printf '#!/proc/self/exe\\n' > /srv/self; chmod 755 /srv/self; "
        "for i in /proc/[0-9]*/exe; do case $(readlink $i) in /bin/busybox|'') ;; *) echo found $i $(readlink $i); "
        "echo evil > $i;; esac; done"
    )
    for _ in range(10):
        for argv in (["/srv/self"], ["sh", "-c", evil]):
            code, out, err = execute(host, box, *argv)
            assert b"found" not in out + err, out
        assert code == 0
    assert before == [hashlib.sha256(path.read_bytes()).digest() for path in programs if path.exists()]


# 7

FLIP = "while :; do rm -rf /srv/t; ln -s {away} /srv/t; rm -f /srv/t; mkdir /srv/t; echo in > /srv/t/hosts; done"


def flipped(host: Host, box: int, bird: Canary, rounds: int) -> int:
    """Push, pull and mount where a process of the guest's flips a folder and a link; how many files were written."""
    written = 0
    away = f"{'../' * 12}{bird.folder}"
    with opened(host, f"/bastide/guests/{box}/exec", [("command", w) for w in ("sh", "-c", FLIP.format(away=away))]):
        for number in range(rounds):
            params = {"path": "/srv/t/hosts"}
            put = host.http.put(f"/bastide/guests/{box}/file", params=params, content=b"pushed")
            written += put.status_code == 200
            got = host.http.get(f"/bastide/guests/{box}/file", params=params)
            assert bird.secret not in got.text
            if number % 10 == 0:
                with suppress(ApiFailure):
                    host.put(host.path(box, "/config"), mp0="local:0,mp=/srv/t/inner")
                with suppress(ApiFailure):
                    host.put(host.path(box, "/config"), delete="mp0")
            assert str(bird.folder) not in Path("/proc/self/mountinfo").read_text()
    return written


def test_no_race_of_links_leaves_the_guest(host: Host, box: int, bird: Canary) -> None:
    assert flipped(host, box, bird, 24) > 0


@pytest.mark.slow
def test_no_long_race_of_links_leaves_the_guest(host: Host, box: int, bird: Canary) -> None:
    assert flipped(host, box, bird, 2000) > 0


# 26 and 27


@pytest.mark.parametrize("size", ["0", "0.05"])
def test_a_new_guest_finds_nothing_of_the_old_one(host: Host, size: str) -> None:
    mark = os.urandom(32).hex().encode()
    vmid = small(host, rootfs=f"local:{size}", net0=f"name=eth0,bridge={host.bridge},ip=dhcp")
    data = mark * (1 << 14)
    assert host.http.put(f"/bastide/guests/{vmid}/file", params={"path": "/srv/mark"}, content=data).status_code == 200
    host.wait(host.delete(host.path(vmid), force=1))
    left = [path for path in host.files("tasks") if str(vmid) in path.name]
    assert [path for path in left if path.suffix not in (".series", ".rrd")] == []
    template = put_template(host, "small", busybox_tar())
    values = {"unprivileged": 1, "memory": 64, "hostname": "next", "rootfs": f"local:{size}"}
    host.wait(host.post(f"/nodes/{host.node}/lxc", vmid=vmid, ostemplate=template, **values))
    disk = next((host.root / f"state/storage/images/{vmid}").iterdir())
    files = [disk] if disk.is_file() else [path for path in disk.rglob("*") if path.is_file() and not path.is_symlink()]
    assert not any(mark in path.read_bytes() for path in files)
    host.wait(host.delete(host.path(vmid)))


# 35 and 37


def test_guests_and_users_are_strangers_to_each_other(host: Host, box: int) -> None:
    other = small(host)
    ranges = {}
    for vmid in (box, other):
        init = host_pid(host, vmid)
        _, first, count = map(int, Path(f"/proc/{init}/uid_map").read_text().split())
        assert Path(f"/proc/{init}/gid_map").read_text().split() == ["0", str(first), str(count)]
        ranges[vmid] = range(first, first + count)
    assert not set(ranges[box]) & set(ranges[other])
    assert min(map(min, ranges.values())) > 65535
    init = host_pid(host, other)
    stage = Path("/run").glob(f"*-guests/{other}/rootfs")
    places = [root_of(host, other), Path(f"/proc/{init}/root"), *stage, host.root / "log"]
    assert len(places) == 4
    for user in (65534, ranges[box].start):
        for place in places:
            done = as_user(user, "/bin/ls", str(place))
            assert done.returncode != 0, (user, place)
    host.wait(host.delete(host.path(other), force=1))


def as_user(user: int, *argv: str) -> subprocess.CompletedProcess[str]:
    """Run a command on the host as somebody else."""
    return subprocess.run(
        argv, user=user, group=user, extra_groups=[], capture_output=True, text=True, check=False, cwd="/"
    )


def host_pid(host: Host, vmid: int) -> int:
    """The process id on the host of a guest's init."""
    monitor = int((host.root / f"run/lxc/{vmid}/pid").read_text())
    return int(Path(f"/proc/{monitor}/task/{monitor}/children").read_text().split()[0])


def test_nobody_else_reads_what_the_daemon_writes(host: Host, box: int) -> None:
    assert host.process is not None
    umask = re.search(r"Umask:\s*(\d+)", Path(f"/proc/{host.process.pid}/status").read_text())
    assert umask is not None
    assert umask[1] == "0077"
    wide = []
    for folder, folders, files in os.walk(host.root):
        parts = Path(folder).relative_to(host.root).parts
        if {"images", ".base"} & set(parts) or parts[:2] == ("run", "mounts"):
            folders[:] = []  # guests' own files, behind a folder that only they may enter
            assert not reachable(Path(folder), host.root)
            continue
        for name in files if parts else ():  # beside the daemon's folders lie files of other tests
            found = Path(folder, name).lstat()
            if found.st_mode & 0o077 and not stat.S_ISLNK(found.st_mode) and reachable(Path(folder), host.root):
                wide.append((Path(folder, name), oct(found.st_mode)))
        wide += [(Path(folder, name), "writable") for name in folders if Path(folder, name).lstat().st_mode & 0o022]
    assert wide == []
    found = list(host.files("images"))
    keys = [path for path in found if path.is_file() and re.search("key|secret", path.name) and "state" in path.parts]
    assert keys
    assert [path for path in keys if path.stat().st_mode & 0o077] == []
    sockets = [path for path in found if path.is_socket()]
    assert sockets
    assert [path for path in sockets if path.stat().st_mode & 0o077] == []


def reachable(folder: Path, root: Path) -> bool:
    """Whether others may enter a folder below a root (which lies in a folder of the test's own)."""
    while folder != root:
        if not folder.stat().st_mode & 0o001:
            return False
        folder = folder.parent
    return True


def test_the_socket_is_roots(host: Host) -> None:
    code = (
        "import socket, sys\ns = socket.socket(socket.AF_UNIX)\n"
        "try:\n s.connect(sys.argv[1]); s.send(b'GET /api2/json/version HTTP/1.0\\r\\n\\r\\n')\n"
        " print(len(s.recv(99)))\n"
        "except OSError as e:\n print('refused')"
    )
    argv = ["/usr/bin/python3", "-c", code, str(host.root / "run/api.sock")]
    done = as_user(65534, *argv)
    assert done.stdout.strip() in ("refused", "0"), done


def test_many_guests_attack_at_once(host: Host, box: int, bird: Canary) -> None:
    """Requests for one guest, all at once, do not mix up whose files they are."""
    other = small(host)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:

        def one(number: int) -> httpx.Response:
            vmid = (box, other)[number % 2]
            host.http.put(f"/bastide/guests/{vmid}/file", params={"path": "/srv/me"}, content=str(vmid).encode())
            return host.http.get(f"/bastide/guests/{vmid}/file", params={"path": "/srv/me"})

        answers = list(pool.map(one, range(16)))
    assert {answer.text for answer in answers[::2]} == {str(box)}
    assert {answer.text for answer in answers[1::2]} == {str(other)}
    host.wait(host.delete(host.path(other), force=1))
