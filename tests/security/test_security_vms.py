"""Attacks out of a VM, and on it, against a real daemon and real QEMU.

Each test fails when its defence is taken out; the docstrings say which one that is.
"""

import errno
import json
import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from framework import inject
from framework.host import ApiFailure, Host, TaskFailed
from framework.patience import PATIENCE

pytestmark = pytest.mark.system


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[tuple[Path, bytes]]:
    """A file that only root may read, and its secret content."""
    secret = f"canary-{uuid.uuid4()}".encode()
    file = tmp_path / "canary"
    file.write_bytes(secret * 2000)
    file.chmod(0o600)
    before = file.stat()
    yield file, secret
    after = file.stat()
    assert (before.st_atime_ns, before.st_mtime_ns) == (after.st_atime_ns, after.st_mtime_ns), "it was read"


def disk_file(host: Host, volid: str) -> Path:
    return host.root / "state/storage/images" / volid.partition(":")[2]


def volume_of(host: Host, vmid: int, key: str) -> str:
    return str(host.get(host.path(vmid, "/config"))[key]).partition(",")[0]


def test_a_raw_disk_stays_raw_whatever_its_guest_writes(host: Host, canary: tuple[Path, bytes], tmp_path: Path) -> None:
    """ATTACKS 2: a qcow2 header at the start of a raw disk is data. Defence: formats are said, never probed.

    With `detect` in place of the volume's format in `operations/vm/plan.py` the guest would see the canary.
    """
    file, secret = canary
    evil = tmp_path / "evil.qcow2"
    subprocess.run(
        ["qemu-img", "create", "-q", "-u", "-f", "qcow2", "-b", str(file), "-F", "raw", str(evil), "1G"], check=True
    )
    header = evil.read_bytes()
    vmid = host.create_vm(scsi0="local:1,format=raw")
    disk = disk_file(host, volume_of(host, vmid, "scsi0"))
    with disk.open("r+b") as opened:
        opened.write(header)
    host.act(vmid, "start")
    shown = host.post(host.path(vmid, "/monitor"), command="info block -n")
    assert "(raw)" in shown
    assert str(file) not in shown
    host.wait(host.put(host.path(vmid, "/resize"), disk="scsi0", size="+1G"))
    host.act(vmid, "stop")
    assert disk.stat().st_size == 2 << 30
    row = next(
        row for row in host.get(f"/nodes/{host.node}/storage/local/content", vmid=vmid) if "disk-0" in row["volid"]
    )
    assert (row["format"], row["size"]) == ("raw", 2 << 30)
    host.wait(host.post(host.path(vmid, "/move_disk"), disk="scsi0", format="qcow2", delete=1))
    moved = disk_file(host, volume_of(host, vmid, "scsi0"))
    copy = tmp_path / "copy.raw"
    subprocess.run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", str(moved), str(copy)], check=True)
    content = copy.open("rb").read(1 << 20)
    assert content.startswith(header), "what the guest wrote is what it is"
    assert secret not in content
    host.act(vmid, "start")
    host.act(vmid, "stop")


def test_what_an_import_leaves_of_a_guests_raw_disk_is_its_bytes(
    host: Host, canary: tuple[Path, bytes], tmp_path: Path
) -> None:
    """ATTACKS 2 by another door: another VM imports the disk. Defence: `ours` volumes keep their stored format."""
    file, secret = canary
    evil = tmp_path / "evil.qcow2"
    subprocess.run(
        ["qemu-img", "create", "-q", "-u", "-f", "qcow2", "-b", str(file), "-F", "raw", str(evil), "1G"], check=True
    )
    first = host.create_vm(scsi0="local:1,format=raw")
    volid = volume_of(host, first, "scsi0")
    with disk_file(host, volid).open("r+b") as opened:
        opened.write(evil.read_bytes())
    second = host.create_vm(scsi0=f"local:0,import-from={volid},format=raw")
    content = disk_file(host, volume_of(host, second, "scsi0")).open("rb").read(1 << 20)
    assert content.startswith(evil.read_bytes()[:512])
    assert secret not in content


def test_no_link_of_a_chain_leads_to_another_file(host: Host, canary: tuple[Path, bytes], tmp_path: Path) -> None:
    """ATTACKS 2 and 3 over a linked clone: a QEMU that was taken over rewrites its image's header.

    Defence: `disk_image.check_link`; without its comparison with the next file the clone would start. The guest's start
    is the only one that hands over descriptors, and each other door reads the chain through the same check.
    """
    file, secret = canary
    base = host.create_vm(scsi0="local:1,format=qcow2")
    host.wait(host.post(host.path(base, "/template")))
    clone = host.new_vmid()
    host._vms.add(clone)
    host.wait(host.post(host.path(base, "/clone"), newid=clone, full=0))
    volid = volume_of(host, clone, "scsi0")
    disk = next((host.root / "state/storage/images").rglob(Path(volid).name))
    told = json.loads(subprocess.run(
        ["qemu-img", "info", "--output=json", str(disk)], check=True, capture_output=True, text=True
    ).stdout)  # fmt: skip
    assert told["backing-filename"], "it is a linked clone"
    subprocess.run(["qemu-img", "rebase", "-u", "-f", "qcow2", "-b", str(file), "-F", "raw", str(disk)], check=True)
    doors = [
        lambda: host.act(clone, "start"),
        lambda: host.wait(host.post(host.path(clone, "/move_disk"), disk="scsi0", format="raw")),
        lambda: host.wait(host.post(host.path(clone, "/clone"), newid=host.new_vmid(), full=1)),
        lambda: host.create_vm(scsi0=f"local:0,import-from={volid}"),
    ]
    for door in doors:
        with pytest.raises((TaskFailed, ApiFailure), match="builds on another file"):
            door()
    # What works on the image alone opens no other file, and hands out nothing of one.
    host.wait(host.post(host.path(clone, "/snapshot"), snapname="one"))
    host.wait(host.put(host.path(clone, "/resize"), disk="scsi0", size="+1M"))
    for made in (host.root / "state/storage").rglob("*"):
        if made.is_file():
            with made.open("rb") as opened:
                assert secret not in opened.read(1 << 20), made


def test_no_disk_is_made_to_keep_its_data_elsewhere(host: Host, canary: tuple[Path, bytes], tmp_path: Path) -> None:
    """ATTACKS 1 and 2: a QEMU that was taken over makes its own disk name a data file, which would be written, too.

    Defence: `disk_headers` knows the feature bit, and every door reads the header first.
    """
    file, _secret = canary
    decoy, evil = file.with_name("decoys"), tmp_path / "evil.qcow2"  # a name as long as the canary's
    vmid = host.create_vm(scsi0="local:1,format=qcow2")
    volid = volume_of(host, vmid, "scsi0")
    options = f"data_file={decoy},data_file_raw=on"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-o", options, str(evil), "1G"], check=True)
    decoy.unlink()
    disk_file(host, volid).write_bytes(evil.read_bytes().replace(bytes(decoy), bytes(file)))
    doors = {
        "start": lambda: host.act(vmid, "start"),
        "move": lambda: host.wait(host.post(host.path(vmid, "/move_disk"), disk="scsi0", format="raw")),
        "clone": lambda: host.wait(host.post(host.path(vmid, "/clone"), newid=host.new_vmid(), full=1)),
        "import": lambda: host.create_vm(scsi0=f"local:0,import-from={volid}"),
        "snapshot": lambda: host.wait(host.post(host.path(vmid, "/snapshot"), snapname="one")),
        "resize": lambda: host.wait(host.put(host.path(vmid, "/resize"), disk="scsi0", size="+1G")),
    }
    let_through = []
    for name, door in doors.items():
        try:
            door()
            let_through.append(name)
        except (TaskFailed, ApiFailure):
            pass
    assert let_through == []


def test_nobody_else_on_the_host_reaches_a_vms_sockets(host: Host) -> None:
    """ATTACKS 18: monitor, agent and serial ports. Defence: the folder's mode and the sockets'."""
    vmid = host.create_vm(start=True, serial0="socket", agent=1)
    sockets = sorted((host.root / "run/qemu" / str(vmid)).glob("*.sock"))
    assert len(sockets) >= 3
    program = (
        "import os, socket, sys\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "for path in sys.argv[1:]:\n"
        "    try: socket.socket(socket.AF_UNIX).connect(path)\n"
        "    except PermissionError: continue\n"
        "    print(path)\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", program, *map(str, sockets)], capture_output=True, text=True, check=True
    )
    assert done.stdout == ""
    listening = Path("/proc/net/tcp").read_text() + Path("/proc/net/tcp6").read_text()
    pid = host.get(host.path(vmid, "/status/current"))["pid"]
    inodes = {os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir()}
    for line in listening.splitlines()[1:]:
        if ":" in line and line.split()[3] == "0A":
            assert f"socket:[{line.split()[9]}]" not in inodes, "QEMU listens on no port"
    host.act(vmid, "stop")


def test_a_taken_over_qemu_finds_nothing(host: Host) -> None:
    """ATTACKS 36: user, rights, seccomp and an own root. Defence: `host/confined.py`."""
    vmid = host.create_vm(start=True)
    other = host.create_vm(start=True)
    pid = host.get(host.path(vmid, "/status/current"))["pid"]
    status = dict(
        line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line
    )
    uids = {int(uid) for uid in status["Uid"].split()}
    assert 0 not in uids
    assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == int(status["CapBnd"], 16) == 0
    assert (status["Seccomp"], status["NoNewPrivs"]) == ("2", "1")
    root = Path(f"/proc/{pid}/root")
    assert sorted(path.name for path in (root / "etc").iterdir()) in ([], ["localtime"])
    for place in ("root", "home", "var", "run"):
        assert not (root / place).exists(), place
    others = Path(f"/proc/{host.get(host.path(other, '/status/current'))['pid']}/status").read_text()
    assert uids.isdisjoint(int(uid) for uid in others.partition("Uid:")[2].split("\n")[0].split())
    for guest in (vmid, other):
        host.act(guest, "stop")


CALLS = {"openat": 257, "execve": 59, "setuid": 105, "mount": 165, "kill": 62}


def test_what_is_done_in_the_name_of_qemu_leads_nowhere(host: Host, canary: tuple[Path, bytes]) -> None:
    """ATTACKS 36: system calls out of the very process. Without its own root, user and filter (`host/confined.py`,
    `-sandbox`) this fails: each path would open, and each call would be made."""
    vmid, other = host.create_vm(start=True), host.create_vm(start=True)
    pid, neighbour = (host.get(host.path(guest, "/status/current"))["pid"] for guest in (vmid, other))
    # A taken-over QEMU reads its own programs, which proves that calls are made and answered.
    opened = inject.call(pid, CALLS["openat"], -100, b"/usr/bin/qemu-system-x86_64", 0)
    assert opened >= 0, os.strerror(-opened)
    paths = (
        "/etc/shadow", "/etc/passwd", "/root", str(canary[0]), str(host.root), str(host.root / "run/api.sock"),
        "/proc/1/root/etc/shadow", f"/proc/{host.process.pid if host.process else 1}/mem", "/dev/mem", "/dev/sda",
        "../../../../../../etc/shadow",
    )  # fmt: skip
    got = {path: inject.call(pid, CALLS["openat"], -100, path.encode(), 0) for path in paths}
    assert {path: told for path, told in got.items() if told not in (-errno.ENOENT, -errno.EACCES)} == {}
    assert inject.call(pid, CALLS["openat"], -100, b"/usr/bin/evil", os.O_CREAT | os.O_WRONLY, 0o777) < 0
    assert inject.call(pid, CALLS["kill"], neighbour, 0) in (-errno.EPERM, -errno.ESRCH)
    assert host.get(host.path(vmid, "/status/current"))["status"] == "running"
    for guest in (vmid, other):
        host.act(guest, "stop")


@pytest.mark.parametrize("name", ["execve", "setuid", "mount"])
def test_calls_that_qemu_never_makes_end_it(host: Host, name: str) -> None:
    """ATTACKS 36. Without `-sandbox` this fails: the call is made, or refused for another reason."""
    vmid = host.create_vm(start=True)
    pid = host.get(host.path(vmid, "/status/current"))["pid"]
    arguments = {"execve": [b"/usr/bin/qemu-img", 0, 0], "setuid": [0], "mount": [b"none", b"/usr", b"tmpfs", 0, 0]}
    with pytest.raises(inject.Ended):
        inject.call(pid, CALLS[name], *arguments[name])
    deadline = time.monotonic() + 30 * PATIENCE
    while host.get(host.path(vmid, "/status/current"))["status"] != "stopped":
        assert time.monotonic() < deadline, "it goes on"
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("description", "x -device isa-debug-exit,iobase=0xf4\nargs: -S"),
        ("tags", "a,b;c"),
        ("smbios1", "manufacturer=A B,product=-device,serial=x=y"),
        ("scsi0", "local:1,serial=a%2Cid%3Db"),
    ],
)
def test_no_value_becomes_an_argument(host: Host, key: str, value: str) -> None:
    """ATTACKS 10: QEMU's command line has the devices of the options and no other. Defence: JSON, doubled commas."""
    vmid = host.create_vm(**{"scsi0": "local:1", key: value})
    plain = host.create_vm(scsi0="local:1")
    arguments = []
    for guest in (plain, vmid):
        host.act(guest, "start")
        pid = host.get(host.path(guest, "/status/current"))["pid"]
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        arguments.append([word for word in words if word.startswith(b"-")])
        host.act(guest, "stop")
    assert arguments[0] == arguments[1]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("name", "a,id=b"),
        ("smbios1", "manufacturer=A,product=B\n-device"),
        ("scsi0", "local:1,serial=a%0Ab"),
        ("net0", "virtio,bridge=vmbr0,id=x"),
        ("cpu", "host,flags=+aes,kvm=off"),
        ("machine", "q35,accel=tcg"),
        ("vga", "std,edid=off"),
    ],
)
def test_what_could_only_be_an_argument_is_refused(host: Host, key: str, value: str) -> None:
    """ATTACKS 9 and 10: the parameter is named and nothing is made. Defence: `model/vm*.py`."""
    with pytest.raises(ApiFailure) as caught:
        host.create_vm(**{key: value})
    assert caught.value.status == 400
    assert list(caught.value.errors) == [key]


def test_a_new_disk_holds_nothing_of_an_old_one(host: Host) -> None:
    """ATTACKS 26: what a removed VM wrote is not in the next one's disk. Defence: fresh sparse files."""
    first = host.create_vm(scsi0="local:1")
    pattern = b"REMANENCE" * 1000
    with disk_file(host, volume_of(host, first, "scsi0")).open("r+b") as opened:
        for offset in range(0, 64 << 20, 1 << 20):
            opened.seek(offset)
            opened.write(pattern)
        os.fsync(opened.fileno())
    host.wait(host.delete(host.path(first)))
    second = host.create_vm(scsi0="local:1")
    with disk_file(host, volume_of(host, second, "scsi0")).open("rb") as opened:
        while chunk := opened.read(16 << 20):
            assert b"REMANENCE" not in chunk


def test_a_console_is_for_its_own_guest_once(host: Host) -> None:
    """ATTACKS 18: a ticket for one VM's screen opens no other's. Defence: the offer binds guest, user and port."""
    first, second = host.create_vm(start=True), host.create_vm(start=True)
    offer = host.post(host.path(first, "/vncproxy"), websocket=1)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(host.root / "run/api.sock"))
        from urllib.parse import quote  # noqa: PLC0415

        path = f"/api2/json{host.path(second, '/vncwebsocket')}?port={offer['port']}&vncticket={quote(offer['ticket'])}"
        connection.sendall(
            f"GET {path} HTTP/1.1\r\nHost: local\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
        )
        assert connection.recv(4096).split(b" ")[1] in (b"401", b"403")
    for guest in (first, second):
        host.act(guest, "stop")
