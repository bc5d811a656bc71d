"""Restore tests over the fakes: what is tried, that it is alone, what is told of it, and that nothing of it stays."""

import asyncio
import io
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from bastide.base.errors import HostFailure, InvalidParameter, NotFound
from bastide.guest.fake_vm import FakeVmEngine
from bastide.model.access import ROOT
from bastide.model.backup_proof import RestoreTestJob, RestoreTestOptions
from bastide.model.guest import Guest
from bastide.model.storage import StorageConfig
from bastide.model.vm import VmConfig
from bastide.operations import content, temporary
from bastide.operations.architect import inside
from bastide.operations.backup import proof_jobs, proofs, schedule, trial
from bastide.operations.recover import recover
from bastide.operations.rooms import Rooms
from framework.rooms import fake_rooms

pytestmark = pytest.mark.anyio

CONFIG = """\
arch: amd64
hookscript: local:snippets/hook.sh
hostname: shop
memory: 256
mp0: /srv/shared,mp=/srv/shared
net0: name=eth0,bridge=vmbr0,hwaddr=BC:24:11:04:4F:5E,ip=192.0.2.5/24,gw=192.0.2.1,type=veth
onboot: 1
ostype: debian
protection: 1
rootfs: tank:subvol-105-disk-0
"""


class Inside:
    """What commands in a guest answer, and what is seen of the guest meanwhile."""

    def __init__(self, rooms: Rooms) -> None:
        self.rooms = rooms
        self.state: tuple[int, str] = (0, "running\n")
        self.probe: tuple[int, str] = (0, "all is there\n")
        self.look: Callable[[Guest], None] = lambda _guest: None
        self.asked: list[Sequence[str]] = []

    async def run(self, _rooms: Rooms, guest: Guest, argv: Sequence[str], **_options: Any) -> inside.Ended:
        self.asked.append(argv)
        self.look(await self.rooms.guests.get(guest.vmid))
        if "--failed" in argv:
            return inside.Ended(0, "web.service loaded failed failed Web\n", "")
        code, text = self.state if argv[0] == "systemctl" else self.probe
        return inside.Ended(code, text, "")


@pytest.fixture
async def rooms(tmp_path: Path) -> Rooms:
    return await fake_rooms(tmp_path / "root")


@pytest.fixture
def within(rooms: Rooms, monkeypatch: pytest.MonkeyPatch) -> Inside:
    found = Inside(rooms)
    monkeypatch.setattr(inside, "run", found.run)
    return found


def put(rooms: Rooms, vmid: int = 105, day: int = 1, config: str = CONFIG, kind: str = "lxc") -> str:
    name = f"vzdump-{kind}-{vmid}-2026_01_{day:02d}-01_00_00.{'tar' if kind == 'lxc' else 'vma'}"
    folder = rooms.layout.local_storage / "dump"
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(folder / name, "w") as archive:
        for path, text in {"./etc/vzdump/pct.conf": config, "./etc/os-release": "ID=debian\n"}.items():
            member = tarfile.TarInfo(path)
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
    return f"local:backup/{name}"


async def tried(rooms: Rooms, **options: Any) -> tuple[str | None, list[str]]:
    upid = await trial.start_tests(rooms, ROOT, RestoreTestOptions.parse({"all": 1, **options}))
    record = await rooms.tasks.wait(upid)
    return record.exitstatus, [line.t for line in (await rooms.tasks.log(upid, 0, 200))[0]]


async def nothing_left(rooms: Rooms) -> bool:
    storage = await rooms.storages.get("local")
    volumes = [*await storage.list("rootdir"), *await storage.list("images")]
    return not (await rooms.guests.list() or volumes or await rooms.store.list("trying/") or rooms.engines.running())


async def test_a_copy_lives_alone_is_asked_and_goes(rooms: Rooms, within: Inside) -> None:
    old, new = put(rooms, day=1), put(rooms, day=2)
    seen: list[Guest] = []
    within.look = seen.append
    status, log = await tried(rooms, command="systemctl is-active web")
    assert status == "OK", log
    copy = seen[0]
    assert copy.vmid >= trial.FIRST_VMID
    assert copy.name.startswith("restore-test-")
    assert copy.config["unprivileged"] == 1
    card = str(copy.config["net0"])
    assert "bridge" not in card
    assert "link_down=1" in card
    assert "BC:24:11:04:4F:5E" not in card
    assert not {"mp0", "hookscript"} & copy.config.keys()
    assert not copy.config.get("onboot")
    assert not copy.config.get("protection")
    assert within.asked[-1] == ["/bin/sh", "-c", "systemctl is-active web"]
    assert await nothing_left(rooms)
    (result,) = await proofs.restore_tests(rooms)
    assert (result.backup, result.vmid, result.ok, result.step) == (new, 105, True, "done")
    assert result.output == "systemd: running\nall is there"
    rows = {row["volid"]: row for row in await content.list_content(rooms, "local", "backup")}
    assert rows[new]["restore-test"]["ok"] == 1
    assert "restore-test" not in rows[old]


@pytest.mark.parametrize(
    ("state", "probe", "step", "words"),
    [
        ((0, "running\n"), (3, "web is dead\n"), "probe", "the command ended with 3: web is dead"),
        ((0, "running\n"), (1, ""), "probe", "the command ended with 1"),
        ((1, "degraded\n"), (0, ""), "done", None),
        ((127, ""), (0, ""), "done", None),
    ],
)
async def test_how_it_went_is_told(
    rooms: Rooms, within: Inside, state: tuple[int, str], probe: tuple[int, str], step: str, words: str | None
) -> None:
    put(rooms)
    within.state, within.probe = state, probe
    status, _ = await tried(rooms, command="x")
    (result,) = await proofs.restore_tests(rooms)
    assert (result.step, result.reason, result.ok) == (step, words, words is None)
    assert status == ("OK" if words is None else "1 of 1 restore tests failed: see the log")
    if state[1] == "degraded\n":
        assert result.output is not None
        assert "web.service" in result.output
    assert await nothing_left(rooms)


async def test_one_that_never_comes_up_ends_at_its_deadline(rooms: Rooms, within: Inside) -> None:
    put(rooms)
    within.state = (1, "starting\n")
    options = RestoreTestOptions.parse({"all": 1}).model_copy(update={"timeout": 0.5})
    upid = await trial.start_tests(rooms, ROOT, options)
    await rooms.tasks.wait(upid)
    (result,) = await proofs.restore_tests(rooms)
    assert (result.ok, result.step) == (False, "boot")
    assert "within 0.5 seconds" in (result.reason or "")
    assert await nothing_left(rooms)


@pytest.mark.parametrize(("what", "step"), [("unpack", "restore"), ("start", "start")])
async def test_what_fails_leaves_nothing_and_does_not_stop_the_others(
    rooms: Rooms, within: Inside, what: str, step: str
) -> None:
    put(rooms, 105)
    put(rooms, 106)
    rooms.containers.fail_next[what] = HostFailure("not today")  # type: ignore[attr-defined]
    status, _ = await tried(rooms)
    assert status == "1 of 2 restore tests failed: see the log"
    results = {result.vmid: result for result in await proofs.restore_tests(rooms)}
    assert (results[105].ok, results[105].step) == (False, step)
    assert "not today" in (results[105].reason or "")
    assert results[106].ok
    assert await nothing_left(rooms)


async def test_a_damaged_backup_is_a_failed_test(rooms: Rooms, within: Inside) -> None:
    put(rooms, config="hostname: [\nrootfs: x\n")
    assert (await tried(rooms))[0] == "1 of 1 restore tests failed: see the log"
    assert await nothing_left(rooms)


async def test_a_test_that_is_stopped_leaves_nothing(rooms: Rooms, monkeypatch: pytest.MonkeyPatch) -> None:
    put(rooms)
    reached = asyncio.Event()

    async def hang(*_arguments: Any, **_options: Any) -> inside.Ended:
        reached.set()
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(inside, "run", hang)
    upid = await trial.start_tests(rooms, ROOT, RestoreTestOptions.parse({"all": 1}))
    await reached.wait()
    await rooms.tasks.stop(upid)
    await rooms.tasks.wait(upid)
    assert await nothing_left(rooms)


async def test_a_restart_removes_what_a_killed_daemon_left(rooms: Rooms, within: Inside) -> None:
    vmid = trial.FIRST_VMID
    await rooms.store.put(f"trying/{vmid}", "restore-test-0")
    await rooms.guests.create(Guest(vmid, "lxc", "pve", {"hostname": "restore-test-0", "protection": 1}))
    await rooms.store.put(f"trying/{vmid + 1}", "restore-test-1")
    await rooms.guests.create(Guest(vmid + 1, "lxc", "pve", {"hostname": "somebody-elses"}))
    await recover(rooms)
    assert [guest.name for guest in await rooms.guests.list()] == ["somebody-elses"]
    await temporary.left(rooms, "trying")
    assert await rooms.store.list("trying/") == []


async def test_whose_backups_are_tried(rooms: Rooms) -> None:
    for vmid in (105, 106, 107):
        put(rooms, vmid)
    newest = put(rooms, 106, 9)
    put(rooms, 108, config="", kind="qemu")

    async def found(**options: Any) -> list[int]:
        chosen = await trial.candidates(rooms, RestoreTestOptions.parse(options))
        return [one.name.vmid for one in chosen]

    assert await found(all=1) == [105, 106, 107, 108]
    assert await found(all=1, exclude="105,108") == [106, 107]
    assert await found(vmid="107,105") == [105, 107]
    (one,) = await trial.candidates(rooms, RestoreTestOptions.parse({"vmid": "106"}))
    assert one.volid == newest
    with pytest.raises(InvalidParameter, match="no backup of guest 999"):
        await found(vmid="105,999")
    with pytest.raises(NotFound):
        await found(all=1, **{"backup-storage": "nowhere"})
    with pytest.raises(InvalidParameter, match="vmid"):
        RestoreTestOptions.parse({})
    with pytest.raises(InvalidParameter, match="vmid"):
        RestoreTestOptions.parse({"vmid": "105", "all": 1})


async def test_a_storage_that_does_not_answer_is_passed_over(rooms: Rooms, tmp_path: Path) -> None:
    put(rooms, 105)
    other = StorageConfig(storage="other", type="dir", path=str(tmp_path / "other"), content="backup")
    await rooms.storages.add(other)

    async def silent(*_arguments: Any) -> Any:
        raise HostFailure("no answer")

    (await rooms.storages.get("other")).list = silent  # type: ignore[method-assign]
    assert len(await trial.candidates(rooms, RestoreTestOptions.parse({"all": 1}))) == 1
    with pytest.raises(HostFailure, match="no answer"):
        await trial.candidates(rooms, RestoreTestOptions.parse({"all": 1, "backup-storage": "other"}))


def test_a_vm_is_alone() -> None:
    config = {
        "name": "x", "agent": "1", "net0": "virtio=BC:24:11:00:00:01,bridge=vmbr0,tag=5,firewall=1",
        "scsi0": "local:1/a", "hostpci0": "01:00.0", "usb0": "1234:5678", "usb1": "spice",
        "serial0": "socket", "serial1": "/dev/ttyS0",
        "parallel0": "/dev/parport0", "virtiofs0": "data", "hookscript": "local:snippets/x", "onboot": 1,
        "protection": 1,
        "startup": "order=1", "hugepages": "2", "numa0": "cpus=0", "boot": "order=scsi0",
        "args": "-netdev user,id=way -device e1000,netdev=way",
    }  # fmt: skip
    assert trial.alone(config, "qemu") == {
        "name": "x", "agent": "1", "net0": "virtio=BC:24:11:00:00:01,link_down=1", "scsi0": "local:1/a",
        "serial0": "socket", "numa0": "cpus=0", "boot": "order=scsi0",
    }  # fmt: skip


def test_a_container_is_alone() -> None:
    config = {
        "hostname": "x", "rootfs": "local:1/a", "mp0": "local:1/b,mp=/b", "mp1": "/srv,mp=/srv",
        "mp2": "mp=/c,volume=/c",
        "dev0": "/dev/kvm", "net0": "name=eth0,bridge=vmbr0,hwaddr=BC:24:11:00:00:01,ip=dhcp,trunks=1;2",
    }  # fmt: skip
    assert trial.alone(config, "lxc") == {
        "hostname": "x", "rootfs": "local:1/a", "mp0": "local:1/b,mp=/b",
        "net0": "name=eth0,hwaddr=BC:24:11:00:00:01,ip=dhcp,link_down=1",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("config", "ping", "seen"),
    [
        ({"agent": "1"}, True, "systemd: running"),
        ({"serial0": "socket"}, False, "serial port 0 asks for a login"),
        ({}, False, "it runs; there is neither an agent nor a serial port to ask"),
    ],
)
async def test_a_vm_is_seen_by_the_best_witness(
    rooms: Rooms, within: Inside, monkeypatch: pytest.MonkeyPatch, config: dict[str, str], ping: bool, seen: str
) -> None:
    engine = rooms.vms
    assert isinstance(engine, FakeVmEngine)
    engine.answers |= {"guest-ping": {}} if ping else {}
    monkeypatch.setattr(trial, "_SILENT_SECONDS", 0.1)
    put(rooms, config="", kind="qemu")
    upids = []

    async def restore_vm(rooms: Rooms, _by: Any, vmid: int, _archive: Any, options: Any, _wish: Any) -> Any:
        async def work(_task: Any) -> None:
            values = VmConfig.parse({**config, **options.to_text()}).to_text()
            await rooms.guests.create(Guest(vmid, "qemu", "pve", values, first_id=100_000))

        upids.append(await rooms.tasks.start("qmrestore", str(vmid), ROOT, work))
        return upids[-1]

    monkeypatch.setattr(trial, "restore_vm", restore_vm)
    status, log = await tried(rooms)
    assert status == "OK", log
    (result,) = await proofs.restore_tests(rooms)
    assert len(upids) == 1
    assert (result.kind, result.output) == ("qemu", seen)
    assert await nothing_left(rooms)


async def test_jobs_run_tests_at_their_times(rooms: Rooms, within: Inside) -> None:
    put(rooms)
    known, now = proof_jobs.RESTORE_TESTS, 1_780_000_000
    await known.create(
        rooms, RestoreTestJob.parse({"id": "weekly", "schedule": "hourly utc", "all": 1, "command": "a\nb"})
    )
    await schedule.settle(rooms, "restoretestjob/weekly", now)
    scheduler = schedule.Scheduler(rooms, [known.timed], lambda: now + 2001)
    await scheduler.look()
    (job,) = await known.list(rooms)
    row = await known.row(rooms, job)
    assert (row["id"], row["command"], row["last-run"]["started"]) == ("weekly", "a\nb", now + 2001)
    await rooms.tasks.wait(row["last-run"]["upid"])
    assert [result.ok for result in await proofs.restore_tests(rooms)] == [True]
    await known.update(rooms, "weekly", {"enabled": 0}, ["command"])
    (job,) = await known.list(rooms)
    assert (job.command, job.enabled, await known.timed(rooms)) == (None, False, [])
    for changes, delete, key in (
        ({"schedule": "x"}, [], "schedule"),
        ({}, ["id"], "delete"),
        ({}, ["all"], "vmid"),
    ):
        with pytest.raises(InvalidParameter) as error:
            await known.update(rooms, "weekly", changes, delete)
        assert key in error.value.errors
    await known.delete(rooms, "weekly")
    with pytest.raises(NotFound):
        await known.get(rooms, "weekly")
    assert await rooms.store.list("scheduled/") == []


async def test_only_so_many_tests_are_remembered(rooms: Rooms, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proofs, "KEPT", 3)
    for number in range(5):
        await proofs.tested(
            rooms, proofs.RestoreTest("local:backup/x", 100, "lxc", number, 1.0, ok=True, step="done", upid="UPID")
        )
    assert [test.started for test in await proofs.restore_tests(rooms)] == [4, 3, 2]
    assert await proofs.restore_tests(rooms, "other") == []
