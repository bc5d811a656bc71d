"""Saving containers over the fakes: what is saved in each mode, and what is left when it fails or is cut short."""

import asyncio
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from bastide.base.errors import BastideError, DeadlineExceeded, HostFailure, Locked, NoSpace
from bastide.base.ids import Upid
from bastide.guest.fake import FakeEngine
from bastide.model.access import ROOT, Identity
from bastide.model.backup import BackupMode, Tree
from bastide.model.container import ContainerOptions
from bastide.model.guest import GuestState
from bastide.model.storage import Volume
from bastide.operations import snapshots
from bastide.operations.backup import stopping
from bastide.operations.backup.saving import Backup, Turn
from bastide.operations.ct import power
from bastide.operations.ct.backup import SNAPSHOT, save_container
from bastide.operations.ct.create import create_container
from bastide.operations.ct.snapshot import take_snapshot
from bastide.operations.ct.template import make_template
from bastide.operations.recover import let_go, recover
from bastide.operations.rooms import Rooms
from bastide.storage.fake import FakeStorage
from bastide.tasks.tasks import Task
from framework.rooms import FAKE_STORAGES, TEMPLATE, fake_rooms

pytestmark = pytest.mark.anyio

OPTIONS = {
    "hostname": "web", "unprivileged": 1, "rootfs": "local:1", "mp0": "local:1,mp=/data,backup=1",
    "mp1": "local:1,mp=/scratch", "mp2": "/usr,mp=/host", "mp3": "local:1,mp=/data/deep,backup=1",
}  # fmt: skip


@dataclass
class Saved:
    """A sink that notes what it is given, and how the guest is meanwhile."""

    rooms: Rooms
    fault: BaseException | None = None
    tree: Tree | None = None
    config: str = ""
    text: str = ""
    state: GuestState | None = None
    turns: list[tuple[Turn, GuestState]] = field(default_factory=list)

    async def save_tree(self, tree: Tree, config: str) -> None:
        self.tree, self.config = tree, config
        self.text = (tree.root / "note").read_text()
        self.state = self.rooms.containers.state(100)
        if self.fault is not None:
            raise self.fault

    async def save_disks(self, disks: Any, config: str) -> None:
        raise AssertionError

    async def hook(self, turn: Turn) -> None:
        self.turns.append((turn, self.rooms.containers.state(100)))


@pytest.fixture
async def rooms(tmp_path: Path) -> Rooms:
    """A host with the container 100."""
    rooms = await fake_rooms(tmp_path, FAKE_STORAGES)
    made = await create_container(rooms, ROOT, 100, TEMPLATE, ContainerOptions.parse(OPTIONS))
    assert (await rooms.tasks.wait(made)).exitstatus == "OK"
    _note(rooms, "before")
    return rooms


def _root(rooms: Rooms) -> Path:
    return rooms.layout.local_storage / "images/100/vm-100-disk-0.subvol"


def _note(rooms: Rooms, text: str) -> None:
    (_root(rooms) / "note").write_text(text)


async def _start(rooms: Rooms) -> None:
    assert (await rooms.tasks.wait(await power.start(rooms, ROOT, 100))).exitstatus == "OK"


async def _save(rooms: Rooms, saved: Saved, mode: BackupMode = "snapshot", **more: Any) -> list[str]:
    """Run it as a task; its log. Raises what it raised."""
    failure: list[BaseException] = []

    async def work(task: Task) -> None:
        async with rooms.locks.hold(100, task.upid, "backup") as held:
            guest = await rooms.guests.get(100)
            try:
                await save_container(rooms, Backup(guest, mode, saved, held, task, hook=saved.hook, **more))
            except BaseException as error:
                failure.append(error)
                raise

    upid = await rooms.tasks.start("vzdump", "100", ROOT, work)
    await rooms.tasks.wait(upid)
    if failure:
        raise failure[0]
    return [line.t for line in (await rooms.tasks.log(upid, limit=1000))[0]]


async def _clean(rooms: Rooms) -> None:
    """Nothing is left of a backup."""
    guest = await rooms.guests.get(100)
    assert SNAPSHOT not in guest.snapshots
    assert "lock" not in guest.config
    for prefix in ("backup-stop/", "backup-copy/", "still/"):
        assert await rooms.store.list(prefix) == []
    assert not [*rooms.layout.state.glob("vzdump/*")]
    storage = await rooms.storages.get("local")
    assert isinstance(storage, FakeStorage)
    assert not any(storage._snapshots.values())
    if rooms.containers.state(100) is GuestState.STOPPED:
        assert storage.active_volumes == set()


async def test_a_stopped_container_is_saved_whatever_the_mode(rooms: Rooms) -> None:
    saved = Saved(rooms)
    log = await _save(rooms, saved, "snapshot")
    assert saved.tree is not None
    assert set(saved.tree.mounts) == {"/data", "/data/deep"}
    assert saved.tree.first_id == (await rooms.guests.get(100)).first_id
    assert saved.turns == []
    assert "including mount point rootfs ('/') in backup" in log
    assert "including mount point mp0 ('/data') in backup" in log
    assert "excluding volume mount point mp1 ('/scratch') from backup (disabled)" in log
    assert "excluding bind mount point mp2 ('/host') from backup (not a volume)" in log
    assert "hostname: web" in saved.config
    # It never ran: nobody has made the folders yet that its volumes are mounted at.
    assert (_root(rooms) / "data").is_dir()
    assert (saved.tree.mounts["/data"] / "deep").is_dir()
    await _clean(rooms)


async def test_a_place_behind_a_link_is_told(rooms: Rooms) -> None:
    """A restore mounts its volumes before it knows of the link."""
    (_root(rooms) / "srv/real").mkdir(parents=True)
    (_root(rooms) / "data").symlink_to("/srv/real")
    log = await _save(rooms, Saved(rooms))
    assert any("WARN: mount point '/data' is reached by a link" in line for line in log)
    assert not any("'/data/deep' is reached" in line for line in log)


async def test_a_template_is_saved_as_it_is(rooms: Rooms) -> None:
    guest = await rooms.guests.get(100)
    await rooms.guests.update(guest.with_config({key: guest.config[key] for key in guest.config if key != "mp2"}))
    assert (await rooms.tasks.wait(await make_template(rooms, ROOT, 100))).exitstatus == "OK"
    saved = Saved(rooms)
    await _save(rooms, saved)
    assert saved.text == "before"
    assert "template: 1" in saved.config
    # It never ran, and nobody can write to it any more.
    assert saved.tree is not None
    assert (saved.tree.root / "data").is_dir()
    assert (saved.tree.root / "scratch").is_dir()


async def test_a_running_container_is_saved_from_its_snapshot(rooms: Rooms) -> None:
    await _start(rooms)
    saved = Saved(rooms)

    async def look(turn: Turn) -> None:
        saved.turns.append((turn, rooms.containers.state(100)))
        if turn == "pre-restart":
            _note(rooms, "after")

    saved.hook = look  # type: ignore[method-assign]
    log = await _save(rooms, saved)
    assert saved.text == "before"
    assert saved.state is GuestState.RUNNING
    assert [turn for turn, _ in saved.turns] == ["pre-stop", "pre-restart", "post-restart"]
    assert any(line.startswith("the guest stood still for 0.") for line in log)
    assert "backup mode: snapshot" in log
    assert "lock" not in saved.config
    await _clean(rooms)


async def test_while_it_is_saved_the_configuration_is_locked(rooms: Rooms) -> None:
    await _start(rooms)
    saved, seen = Saved(rooms), []

    async def look(turn: Turn) -> None:
        seen.append((turn, (await rooms.guests.get(100)).config.get("lock")))

    saved.hook = look  # type: ignore[method-assign]
    await _save(rooms, saved)
    assert ("post-restart", "backup") in seen
    # Of what is not saved no snapshot is taken.
    guest = await rooms.guests.get(100)
    assert "mp1" in guest.config


@pytest.fixture
def copying(monkeypatch: pytest.MonkeyPatch) -> None:
    """Storages whose snapshots are copies."""
    capabilities = FakeStorage.capabilities.fget  # type: ignore[attr-defined]
    monkeypatch.setattr(
        FakeStorage, "capabilities", property(lambda self: replace(capabilities(self), instant=frozenset()))
    )
    info = FakeStorage.info

    async def told(self: FakeStorage, name: str) -> Volume:
        return replace(await info(self, name), used=4096)

    monkeypatch.setattr(FakeStorage, "info", told)


@pytest.mark.usefixtures("copying")
async def test_a_snapshot_that_copies_little_is_taken(rooms: Rooms) -> None:
    await _start(rooms)
    saved = Saved(rooms)
    log = await _save(rooms, saved)
    assert "backup mode: snapshot" in log
    assert any(line.startswith("the snapshot copies ") for line in log)
    await _clean(rooms)


@pytest.mark.usefixtures("copying")
async def test_a_snapshot_that_copies_much_means_suspend(rooms: Rooms, monkeypatch: pytest.MonkeyPatch) -> None:
    await _start(rooms)
    monkeypatch.setattr("bastide.operations.ct.backup._SMALL", 0)
    saved = Saved(rooms)
    log = await _save(rooms, saved)
    assert "mode failure - trying 'suspend' mode instead" in log
    assert "backup mode: suspend" in log
    assert saved.turns == [
        ("pre-stop", GuestState.RUNNING), ("pre-restart", GuestState.PAUSED), ("post-restart", GuestState.RUNNING),
    ]  # fmt: skip
    assert (saved.text, saved.state) == ("before", GuestState.RUNNING)
    await _clean(rooms)


async def test_a_suspended_one_is_copied_where_it_is_wanted(rooms: Rooms, tmp_path: Path) -> None:
    await _start(rooms)
    saved = Saved(rooms)
    await _save(rooms, saved, "suspend", tmpdir=tmp_path)
    assert saved.tree is not None
    assert saved.tree.root.parent.parent == tmp_path
    assert saved.tree.mounts == {}
    assert not [*tmp_path.glob("vzdumptmp-*")]
    with pytest.raises(HostFailure, match="no folder"):
        await _save(rooms, Saved(rooms), "suspend", tmpdir=tmp_path / "nowhere")
    await _clean(rooms)


async def test_a_stopped_one_runs_again(rooms: Rooms) -> None:
    await _start(rooms)
    saved = Saved(rooms)
    log = await _save(rooms, saved, "stop")
    assert saved.state is GuestState.STOPPED
    assert rooms.containers.state(100) is GuestState.RUNNING
    assert saved.turns == [
        ("pre-stop", GuestState.RUNNING), ("pre-restart", GuestState.STOPPED), ("post-restart", GuestState.RUNNING),
    ]  # fmt: skip
    assert "backup mode: stop" in log
    await _clean(rooms)


@pytest.mark.parametrize("mode", ["snapshot", "suspend", "stop"])
@pytest.mark.parametrize("fault", [NoSpace("full"), HostFailure("broken")])
async def test_what_fails_leaves_a_running_guest(rooms: Rooms, mode: BackupMode, fault: BastideError) -> None:
    await _start(rooms)
    with pytest.raises(type(fault)):
        await _save(rooms, Saved(rooms, fault), mode)
    assert rooms.containers.state(100) is GuestState.RUNNING
    await _clean(rooms)
    saved = Saved(rooms)
    await _save(rooms, saved, mode)
    assert saved.text == "before"


@pytest.mark.parametrize("mode", ["snapshot", "suspend", "stop"])
async def test_a_hook_that_fails_leaves_a_running_guest(rooms: Rooms, mode: BackupMode) -> None:
    for bad in ("pre-stop", "pre-restart", "post-restart"):
        if rooms.containers.state(100) is GuestState.STOPPED:
            await _start(rooms)

        async def hook(turn: Turn, bad: str = bad) -> None:
            if turn == bad:
                raise HostFailure("the script said no")

        saved = Saved(rooms)
        saved.hook = hook  # type: ignore[method-assign]
        try:
            log = await _save(rooms, saved, mode)
            assert mode == "stop"
            assert any("said no" in line for line in log)
        except HostFailure as error:
            assert "said no" in str(error)  # noqa: PT017
        assert rooms.containers.state(100) is GuestState.RUNNING
        await _clean(rooms)


async def test_one_that_does_not_stop_goes_on(rooms: Rooms, monkeypatch: pytest.MonkeyPatch) -> None:
    await _start(rooms)

    async def busy(self: FakeEngine, vmid: int, deadline: float) -> bool:
        return False

    monkeypatch.setattr(FakeEngine, "shutdown", busy)
    with pytest.raises(DeadlineExceeded):
        await _save(rooms, Saved(rooms), "stop", stopwait=1)
    assert rooms.containers.state(100) is GuestState.RUNNING
    await _clean(rooms)


async def test_an_old_snapshot_of_that_name_goes(rooms: Rooms) -> None:
    await _start(rooms)
    upid = await take_snapshot(rooms, ROOT, 100, SNAPSHOT)
    assert (await rooms.tasks.wait(upid)).exitstatus == "OK"
    saved = Saved(rooms)
    await _save(rooms, saved)
    assert saved.text == "before"
    await _clean(rooms)


@pytest.mark.parametrize("mode", ["snapshot", "suspend", "stop"])
async def test_cancelled_it_leaves_a_running_guest(rooms: Rooms, mode: BackupMode) -> None:
    await _start(rooms)
    begun = asyncio.Event()

    class Slow(Saved):
        async def save_tree(self, tree: Tree, config: str) -> None:
            begun.set()
            await asyncio.Event().wait()

    saving = asyncio.ensure_future(_save(rooms, Slow(rooms), mode))
    await asyncio.wait_for(begun.wait(), 20)
    (running,) = [one for one in await rooms.tasks.list() if one.running]
    await rooms.tasks.stop(running.upid)
    with pytest.raises(asyncio.CancelledError):
        await saving
    await rooms.tasks.wait(running.upid)
    assert rooms.containers.state(100) is GuestState.RUNNING
    await _clean(rooms)


@pytest.mark.parametrize(
    ("mode", "key"), [("snapshot", "guest/100"), ("suspend", "backup-copy/100"), ("stop", "backup-stop/100")]
)
async def test_cancelled_while_it_is_written_down_it_leaves_no_word(
    rooms: Rooms, monkeypatch: pytest.MonkeyPatch, mode: BackupMode, key: str
) -> None:
    """What is on its way to the store comes there: a word that stayed would lock the guest, or start it some day."""
    await _start(rooms)
    reached, put = asyncio.Event(), rooms.store.put

    async def slowly(where: str, *arguments: Any, **options: Any) -> Any:
        writing = asyncio.ensure_future(put(where, *arguments, **options))
        if where == key and not reached.is_set():
            reached.set()
            await asyncio.sleep(0.1)
        return await asyncio.shield(writing)

    monkeypatch.setattr(rooms.store, "put", slowly)
    saving = asyncio.create_task(_save(rooms, Saved(rooms), mode))
    await reached.wait()
    for record in await rooms.tasks.list(source="active"):
        await rooms.tasks.stop(record.upid)
    with pytest.raises(asyncio.CancelledError):
        await saving
    assert rooms.containers.state(100) is GuestState.RUNNING
    await _clean(rooms)


async def test_the_next_daemon_undoes_what_this_one_began(rooms: Rooms) -> None:
    """What a dead daemon leaves is made by hand, each state by itself."""
    await _start(rooms)
    guest = await rooms.guests.get(100)
    guest = await snapshots.begin(rooms, guest, SNAPSHOT, volumes=snapshots.volumes_in(guest.config, 100).values())
    await snapshots.take_volumes(rooms, guest.snapshots[SNAPSHOT])
    left = rooms.layout.state / "vzdump/vzdumptmp-100-0badcafe"
    (left / "root").mkdir(parents=True)
    await rooms.store.put("backup-copy/100", str(left))
    await rooms.store.put("still/100", "")
    await rooms.containers.freeze(100)
    await let_go(rooms)
    await recover(rooms)
    assert rooms.containers.state(100) is GuestState.RUNNING
    await _clean(rooms)


@pytest.mark.parametrize("ran", [False, True])
async def test_the_next_daemon_starts_what_was_stopped(rooms: Rooms, ran: bool) -> None:
    if ran:
        await _start(rooms)
    await rooms.store.put("backup-stop/100", "")
    await rooms.store.put("backup-stop/999", "")
    await let_go(rooms)
    await recover(rooms)
    await stopping.finish(rooms)
    assert rooms.containers.state(100) is GuestState.RUNNING
    assert await rooms.store.list("backup-stop/") == []


async def test_one_that_goes_down_after_the_daemon_is_started(rooms: Rooms, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was told to, and it takes its time."""
    monkeypatch.setattr(stopping, "_LOOK_SECONDS", 0.01)
    await _start(rooms)
    async with stopping.to_be_started(rooms, 100):
        finishing = asyncio.ensure_future(stopping.finish(rooms))
        await asyncio.sleep(0.1)
        assert not finishing.done()
        with monkeypatch.context() as nearly_down:
            nearly_down.setattr(rooms.containers, "init_pid", lambda _vmid: None)
            await asyncio.sleep(0.1)
            assert not finishing.done()
        await rooms.containers.stop(100)
        await asyncio.wait_for(finishing, 20)
    assert rooms.containers.state(100) is GuestState.RUNNING
    assert await rooms.store.list("backup-stop/") == []


async def test_it_is_started_when_others_are_done_with_it(rooms: Rooms, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that was missed may come first."""
    monkeypatch.setattr(stopping, "_RETRY_SECONDS", 0.01)
    refused = iter([True, True, False])

    async def start(rooms: Rooms, by: Identity, vmid: int) -> Upid:
        async def work(_task: Task) -> None:
            if next(refused):
                raise Locked("a backup works on it")

        return await rooms.tasks.start("vzstart", str(vmid), by, work)

    monkeypatch.setattr(power, "start", start)
    await rooms.store.put("backup-stop/100", "")
    async with rooms.locks.hold(100, "job", "backup"):
        await stopping.finish(rooms)
    assert next(refused, None) is None
    assert await rooms.store.list("backup-stop/") == []


async def test_what_cannot_start_again_is_a_warning(rooms: Rooms) -> None:
    await _start(rooms)
    engine = rooms.containers
    assert isinstance(engine, FakeEngine)
    saved = Saved(rooms)

    async def hook(turn: Turn) -> None:
        if turn == "pre-restart":
            engine.fail_next["start"] = HostFailure("no more processes")

    saved.hook = hook  # type: ignore[method-assign]
    log = await _save(rooms, saved, "stop")
    assert any("starting CT 100 again: no more processes" in line for line in log)
    assert saved.text == "before"


async def test_a_full_disk_is_told_by_its_name(rooms: Rooms, monkeypatch: pytest.MonkeyPatch) -> None:
    await _start(rooms)

    def full(self: FakeEngine, *_: Any) -> list[str]:
        return ["python3", "-c", "import sys; sys.exit('rsync: No space left on device (28)')"]

    monkeypatch.setattr(FakeEngine, "following", full)
    with pytest.raises(NoSpace, match="tmpdir"):
        await _save(rooms, Saved(rooms), "suspend")
    await _clean(rooms)
