"""The parts of the engine that need no QEMU: events, limits, what is opened, what is chosen."""

import asyncio
import contextlib
import os
import stat
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bastide.base.errors import HostFailure, NotSupported, WrongState
from bastide.guest.qemu import events, hot_hardware, limits, opening, runtime, tpm, usb
from bastide.guest.qemu.launch import Need
from bastide.guest.qemu.lifecycle import cause
from bastide.guest.qemu.runtime import Launched, Vm
from bastide.guest.vm_protocol import PlannedDisk, VmPlan
from bastide.host import processes, tap, unix_sockets, users
from bastide.host.cgroups import Cgroups
from bastide.host.qmp import Monitor
from bastide.model.storage import DiskImage
from bastide.model.vm import VmConfig
from bastide.model.vm_disks import TpmState
from framework.evil_images import qcow2

LAUNCHED = Launched(1, "pc-q35-7.2", "tcg", "7.2.0", 512, agent=True, tpm=False, taps={0: "tap1i0", 3: "tap1i3"})


def vm(**changes: Any) -> Vm:
    handle = cast(processes.Handle, None)
    return Vm(1, handle, 0, cast(Monitor, None), LAUNCHED, **changes)


@pytest.mark.parametrize(
    ("told", "state", "error"),
    [
        ([("STOP", {})], "paused", None),
        ([("STOP", {}), ("RESUME", {})], "running", None),
        ([("SUSPEND", {})], "suspended", None),
        ([("SUSPEND", {}), ("WAKEUP", {})], "running", None),
        ([("GUEST_PANICKED", {"action": "pause"})], "guest-panicked", "the guest's kernel panicked"),
        ([("GUEST_PANICKED", {"action": "run"})], "running", "the guest's kernel panicked"),
        ([("GUEST_PANICKED", {"action": "run"}), ("RESET", {"guest": True})], "running", None),
        (
            [("BLOCK_IO_ERROR", {"node-name": "drive-scsi0", "operation": "write", "action": "stop", "nospace": True}),
             ("STOP", {})],
            "io-error", "scsi0 cannot be written: no space left on the storage",
        ),
        (
            [("BLOCK_IO_ERROR", {"node-name": "drive-scsi0-1a2b", "operation": "read", "action": "stop"})],
            "io-error", "scsi0 cannot be read: input/output error",
        ),
        (
            [("BLOCK_IO_ERROR", {"node-name": "drive-ide2", "operation": "read", "action": "report", "reason": "x"})],
            "running", None,
        ),
        (
            [("BLOCK_IO_ERROR", {"device": "", "operation": "read", "action": "stop", "reason": "Input/output error"}),
             ("STOP", {}), ("RESUME", {})],
            "running", None,
        ),
        ([("BALLOON_CHANGE", {"actual": "lots"}), ("DEVICE_DELETED", {}), ("NEVER_HEARD_OF", {})], "running", None),
    ],
)  # fmt: skip
def test_events_tell_the_state(told: list[tuple[str, dict[str, Any]]], state: str, error: str | None) -> None:
    machine = vm(state="running")
    for event, data in told:
        events.note(machine, event, data)
    assert (machine.state, machine.error) == (state, error)


def test_the_balloon_is_noted() -> None:
    machine = vm()
    events.note(machine, "BALLOON_CHANGE", {"actual": 1 << 28})
    assert machine.balloon == 1 << 28


@pytest.mark.anyio
async def test_an_unplugged_device_is_waited_for() -> None:
    machine = vm()
    gone: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    machine.unplugging["net0"] = gone
    events.note(machine, "DEVICE_DELETED", {"device": "net1", "path": "/machine/peripheral/net1"})
    assert not gone.done()
    events.note(machine, "DEVICE_DELETED", {"device": "net0"})
    events.note(machine, "DEVICE_UNPLUG_GUEST_ERROR", {"device": "net0"})
    assert await gone


def test_a_launch_is_read_as_it_was_written() -> None:
    assert Launched.from_json(LAUNCHED.to_json()) == LAUNCHED
    for broken in ("", "[]", "{}", '{"uid": 1}'):
        with pytest.raises((ValueError, TypeError, KeyError, AttributeError)):
            Launched.from_json(broken)


def test_limits_of_both_versions() -> None:
    config = VmConfig.parse({"cpulimit": "1.5", "cpuunits": "2000"})
    first = {file.name: file.value for file in limits.limit_files(config, 1)}
    assert first == {
        "cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "150000", "cpu.shares": "2000", "pids.max": "4096",
    }  # fmt: skip
    second = {file.name: file.value for file in limits.limit_files(config, 2)}
    assert second == {"cpu.max": "150000 100000", "cpu.weight": "2000", "pids.max": "4096"}
    unlimited = {file.name: file.value for file in limits.limit_files(VmConfig.parse({}), 2)}
    assert unlimited == {"cpu.max": "max 100000", "cpu.weight": "100", "pids.max": "4096"}


def test_limits_are_written_where_the_controllers_are(tmp_path: Path) -> None:
    group = tmp_path / "bastide/1"
    group.mkdir(parents=True)
    (tmp_path / "bastide/cpuset.cpus").write_text("0-7\n")
    for name in ("cpu.max", "cpu.weight", "pids.max", "cpuset.cpus"):
        (group / name).touch()
    groups = Cgroups(2, tmp_path)
    limits.apply_limits(groups, "bastide/1", VmConfig.parse({"affinity": "0,3-4", "cpulimit": "2"}))
    assert (group / "cpuset.cpus").read_text() == "0,3-4\n"
    assert (group / "cpu.max").read_text() == "200000 100000\n"
    limits.apply_limits(groups, "bastide/1", VmConfig.parse({}))
    assert (group / "cpuset.cpus").read_text().strip() == ""
    with pytest.raises(HostFailure, match="cannot keep a VM on some CPUs"):
        limits.apply_limits(Cgroups(1, None, {"cpu": tmp_path}), "bastide/1", VmConfig.parse({"affinity": "0"}))


def image(path: Path, form: Any = "raw", *, device: bool = False, read_only: bool = False) -> Need:
    return Need("scsi0", "image", path=path, read_only=read_only, image=DiskImage(path, form, device))


def opened(need: Need, folder: Path) -> opening.Opened:
    return opening.open_needs([need], lambda name: folder / f"{name}.sock")


def test_images_are_opened_as_they_may_be_used(tmp_path: Path) -> None:
    disk = tmp_path / "disk.raw"
    disk.write_bytes(b"QFI\xfb" + bytes(1 << 16))
    for read_only, mode in ((True, os.O_RDONLY), (False, os.O_RDWR)):
        found = opened(image(disk, read_only=read_only), tmp_path)
        (number,) = found.numbers["scsi0"]
        assert os.get_inheritable(number) is False
        flags = os.readlink(f"/proc/self/fd/{number}"), _flags(number)
        assert flags == (str(disk), mode)
        found.close()
        with pytest.raises(OSError, match="Bad file"):
            os.fstat(number)


def _flags(number: int) -> int:
    rows = Path(f"/proc/self/fdinfo/{number}").read_text().splitlines()
    flags = int(next(row.split()[1] for row in rows if row.startswith("flags:")), 8)
    return flags & (os.O_ACCMODE | os.O_NONBLOCK)


def test_what_is_no_image_is_not_opened(tmp_path: Path) -> None:
    disk, link, pipe = tmp_path / "disk.raw", tmp_path / "link.raw", tmp_path / "pipe"
    disk.write_bytes(bytes(1 << 16))
    link.symlink_to(disk)
    os.mkfifo(pipe)
    before = set(os.listdir("/proc/self/fd"))
    for path in (link, pipe, tmp_path, tmp_path / "absent", Path("/dev/null")):
        with pytest.raises(HostFailure, match=r"scsi0|not a disk image"):
            opened(image(path), tmp_path)
    with pytest.raises(HostFailure, match="not a block device"):
        opened(image(disk, device=True), tmp_path)
    with pytest.raises(HostFailure):
        opened(image(disk, "qcow2"), tmp_path)
    with pytest.raises(HostFailure, match="not a character device"):
        opened(Need("serial0", "device", path=disk), tmp_path)
    assert set(os.listdir("/proc/self/fd")) == before


def test_no_image_of_a_chain_leads_elsewhere(tmp_path: Path) -> None:
    base, top = tmp_path / "base.raw", tmp_path / "top.qcow2"
    base.write_bytes(bytes(1 << 16))
    chain = DiskImage(top, "qcow2", backing=DiskImage(base, "raw"))
    for named, fine in (("base.raw", True), (str(base), True), ("/etc/shadow", False), ("other.raw", False)):
        top.write_bytes(qcow2(backing=named.encode()))
        before = set(os.listdir("/proc/self/fd"))
        for need in (Need("scsi0", "image", path=top, image=chain), image(top, "qcow2")):
            with contextlib.nullcontext() if fine and need.image is chain else pytest.raises(HostFailure):
                opened(need, tmp_path).close()
        assert set(os.listdir("/proc/self/fd")) == before


def test_nothing_stays_open_when_a_later_need_fails(tmp_path: Path) -> None:
    before = set(os.listdir("/proc/self/fd"))
    needs = [Need("qmp", "listener"), Need("tpm", "peer"), Need("scsi0", "image", path=tmp_path / "absent")]
    with pytest.raises(HostFailure):
        opening.open_needs(needs, lambda name: tmp_path / f"{name}.sock")
    assert set(os.listdir("/proc/self/fd")) == before


def test_listeners_and_peers(tmp_path: Path) -> None:
    deep = tmp_path / ("long" * 30)
    deep.mkdir()
    needs = [Need("qmp", "listener"), Need("tpm", "peer"), Need("serial0", "device", path=Path("/dev/null"))]
    found = opening.open_needs(needs, lambda name: deep / f"{name}.sock")
    assert stat.S_IMODE((deep / "qmp.sock").stat().st_mode) == 0o600
    client = unix_sockets.connect(deep / "qmp.sock")
    client.close()
    os.write(found.peers["tpm"], b"x")
    assert os.read(found.numbers["tpm"][0], 1) == b"x"
    assert stat.S_ISCHR(os.fstat(found.numbers["serial0"][0]).st_mode)
    found.close()


def test_a_connection_never_waits(tmp_path: Path) -> None:
    server = unix_sockets.listen(tmp_path / "s", backlog=0)
    waiting = unix_sockets.connect(tmp_path / "s")
    with pytest.raises(BlockingIOError):
        unix_sockets.connect(tmp_path / "s")
    waiting.close()
    server.close()


@pytest.mark.parametrize(
    ("log", "said"),
    [
        ("", ""),
        ("2026-01-01T00:00:00.123456Z qemu-system-x86_64: -device x: bad\n", "-device x: bad"),
        ("qemu-system-x86_64: first\nqemu-system-x86_64: warning: TCG is slow\n\n", "first"),
        ("cannot confine /usr/bin/qemu: no\n", "cannot confine /usr/bin/qemu: no"),
    ],
)
def test_the_cause_is_the_last_thing_that_is_no_warning(log: str, said: str) -> None:
    assert cause(log) == said


@given(st.text())
def test_every_log_has_a_cause_of_one_line(log: str) -> None:
    assert len(cause(log).splitlines()) <= 1


def test_a_log_in_memory_cannot_grow() -> None:
    log = runtime.new_log()
    os.write(log, b"hello\n")
    assert runtime.read_log(log) == "hello\n"
    with pytest.raises(PermissionError):
        os.pwrite(log, b"x", 1 << 20)
    with pytest.raises(PermissionError):
        os.ftruncate(log, 1 << 20)
    os.close(log)


def test_a_process_is_known_by_its_number_and_its_start(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    runtime.write_process(path, os.getpid())
    handle = runtime.open_process(path)
    assert handle is not None
    assert handle.alive()
    handle.close()
    for text in (f"{os.getpid()} 1", "1", "", "x y", "999999999 5"):
        path.write_text(text)
        assert runtime.open_process(path) is None
    assert runtime.open_process(tmp_path / "absent") is None


def test_the_tpm_takes_descriptors_alone() -> None:
    for version, flag in (("v2.0", True), ("v1.2", False)):
        disk = PlannedDisk("tpmstate0", TpmState(file="local:x", version=cast(Any, version)), Path("/volume"))
        argv = tpm.argv(disk, 7, 8)
        assert ("--tpm2" in argv) is flag
        assert "type=unixio,clientfd=8" in argv
        assert "backend-uri=file:///proc/self/fd/7" in argv
        assert "/volume" not in " ".join(argv)


def test_whole_modules_are_unplugged() -> None:
    modules = {"dimm0": 256, "dimm1": 512, "dimm2": 128}
    assert hot_hardware.modules_to_remove(modules, 640) == ["dimm2", "dimm1"]
    assert hot_hardware.modules_to_remove(modules, 384) == ["dimm2", "dimm0"]
    with pytest.raises(NotSupported, match="whole modules"):
        hot_hardware.modules_to_remove(modules, 200)


def test_user_ids_are_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    busy: set[int] = set()
    monkeypatch.setattr(users, "in_use", lambda: busy)
    first = users.choose(100, [])
    assert users.choose(100, []) == first
    assert users.choose(100, [first, first + 1]) == first + 2
    busy.add(first)
    assert users.choose(100, []) == first + 1
    assert users.FIRST <= first < 2**31 - 2


def test_an_interface_that_is_gone_has_no_traffic() -> None:
    assert tap.traffic("absent0") == (0, 0)


@pytest.mark.skipif(os.geteuid() != 0, reason="changes owners")
def test_usb_nodes_are_given_and_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Device:
        node = tmp_path / "001" / "004"

    Device.node.parent.mkdir()
    Device.node.touch()
    monkeypatch.setattr(usb.usb, "find", lambda _host: [Device])
    first, second = (VmPlan(n, "vm", VmConfig.parse({"usb0": "host=1234:abcd"}), [], {}, users.FIRST + n, "pc", "u")
                     for n in (1, 2))  # fmt: skip
    usb.hand_over(first, [0])
    assert Device.node.stat().st_uid == first.uid
    usb.hand_over(first, [0])
    with pytest.raises(WrongState, match="another virtual machine"):
        usb.hand_over(second, [0])
    usb.take_back(second.uid, tmp_path)
    monkeypatch.setattr(users, "in_use", lambda: {first.uid})
    usb.take_back_stale(tmp_path)
    assert Device.node.stat().st_uid == first.uid
    usb.take_back(first.uid, tmp_path)
    assert Device.node.stat().st_uid == 0
    usb.hand_over(second, [0])
    usb.take_back_stale(tmp_path)
    assert Device.node.stat().st_uid == 0
