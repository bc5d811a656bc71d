"""vzdump over the fakes: what is made, what surrounds it, and what is left when it fails."""

import asyncio
import contextlib
import io
import tarfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bastide.base.errors import HostFailure, InvalidParameter, NotFound, NotSupported, PermissionDenied
from bastide.base.ids import Upid
from bastide.base.layout import Layout
from bastide.host.pipeline import Stage
from bastide.model.access import ROOT
from bastide.model.backup import BackupName, Tree
from bastide.model.backup_options import BackupOptions
from bastide.model.container import ContainerOptions
from bastide.model.guest import Guest
from bastide.model.storage import Content, StorageConfig, Volume
from bastide.operations import inspect, pools
from bastide.operations.backup import archives, notify, selection, sinks, vzdump
from bastide.operations.backup.saving import Backup
from bastide.operations.ct.create import create_container
from bastide.operations.rooms import Rooms
from bastide.storage.fake import FakeStorage
from bastide.storage.protocol import Capabilities, Saving
from framework.rooms import TEMPLATE, fake_rooms

pytestmark = pytest.mark.anyio

CONFIG = "arch: amd64\nhostname: web\n"
Story = Callable[[Rooms, Backup], Awaitable[None]]


async def _saved(rooms: Rooms, backup: Backup) -> None:
    """A container's story without its volumes."""
    backup.task.log("backup mode: snapshot")
    folder = rooms.layout.state / "tree"
    folder.mkdir(exist_ok=True)
    (folder / "hello").write_text(f"{backup.guest.vmid}\n")
    await backup.hook("pre-stop")
    await backup.sink.save_tree(Tree(folder), CONFIG)


async def _broken(rooms: Rooms, backup: Backup) -> None:
    if backup.guest.vmid == 100:
        await _saved(rooms, backup)
        raise HostFailure("the snapshot broke")
    await _saved(rooms, backup)


@pytest.fixture
async def rooms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rooms]:
    rooms = await fake_rooms(tmp_path)
    for vmid, name in ((100, "web"), (101, "db")):
        options = ContainerOptions.parse({"hostname": name, "unprivileged": 1, "memory": 64})
        assert await _end(rooms, await create_container(rooms, ROOT, vmid, TEMPLATE, options)) == "OK"
    monkeypatch.setattr(vzdump, "_STORIES", {"lxc": _saved, "qemu": _saved})
    yield rooms
    await rooms.tasks.shutdown()


async def _end(rooms: Rooms, upid: Upid) -> str:
    return str((await rooms.tasks.wait(upid)).exitstatus)


async def _dump(rooms: Rooms, how: dict[str, Any] | None = None, **options: Any) -> tuple[str, list[str]]:
    values = {key.replace("_", "-"): value for key, value in options.items()}
    upid = await vzdump.start(rooms, ROOT, BackupOptions.parse(values), **(how or {}))
    end = await _end(rooms, upid)
    return end, [line.t for line in (await rooms.tasks.log(upid, limit=1000))[0]]


async def _backups(rooms: Rooms, vmid: int | None = None) -> list[Volume]:
    return list(await (await rooms.storages.get("local")).list("backup", vmid))


def _dumped(rooms: Rooms) -> list[str]:
    return sorted(path.name for path in (rooms.layout.local_storage / "dump").iterdir())


@pytest.mark.parametrize(("compress", "form"), [("0", "tar"), ("gzip", "tar.gz"), ("zstd", "tar.zst")])
async def test_a_backup_has_its_name_its_log_and_its_configuration(rooms: Rooms, compress: str, form: str) -> None:
    end, log = await _dump(
        rooms, vmid="100", compress=compress, storage="local", notes_template="{{guestname}}\\n{{vmid}}"
    )
    assert end == "OK", log
    (volume,) = await _backups(rooms)
    assert (volume.vmid, volume.format, volume.notes, volume.protected) == (100, form, "web\n100", False)
    stem = volume.volid.removeprefix("local:backup/").removesuffix(f".{form}")
    assert _dumped(rooms) == sorted([f"{stem}.{form}", f"{stem}.{form}.notes", f"{stem}.log"])
    kept = (rooms.layout.local_storage / "dump" / f"{stem}.log").read_text()
    assert "INFO: Starting Backup of VM 100 (lxc)" in kept
    assert "INFO: Finished Backup of VM 100 (00:00:0" in kept
    for line in ("INFO: Starting Backup of VM 100 (lxc)", "INFO: CT Name: web", "INFO: backup mode: snapshot",
                 "INFO: adding notes to backup", "INFO: Backup job finished successfully"):  # fmt: skip
        assert line in log
    archive = await archives.open_archive(rooms, volume.volid)
    assert await archive.config() == CONFIG
    assert (archive.name.vmid, archive.random_access, archive.size) == (100, False, volume.size)
    same = await archives.open_archive(rooms, str(rooms.layout.local_storage / "dump" / f"{stem}.{form}"))
    assert await same.config() == CONFIG
    assert await rooms.locks.list() == []


async def test_guests_are_saved_one_after_the_other_and_one_that_fails_stops_nobody(
    rooms: Rooms, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vzdump, "_STORIES", {"lxc": _broken})
    end, log = await _dump(rooms, all=1, compress="zstd")
    assert end == "job errors"
    assert "ERROR: Backup of VM 100 failed - the snapshot broke" in log
    assert "INFO: Backup job finished with errors" in log
    assert [volume.vmid for volume in await _backups(rooms)] == [101]
    assert list((rooms.layout.local_storage / ".incoming").iterdir()) == []
    assert "ERROR: Backup of VM 100 failed" in (rooms.layout.logs / "vzdump/lxc-100.log").read_text()


async def test_whom_a_call_means(rooms: Rooms) -> None:
    await pools.create_pool(rooms, "p", None)
    await pools.create_pool(rooms, "p/q", None)
    await pools.update_pool(rooms, "p/q", guests=[101])

    async def ids(**values: Any) -> list[int]:
        return [guest.vmid for guest in await selection.chosen(rooms, BackupOptions.parse(values))]

    assert await ids(all=1) == [100, 101]
    assert await ids(exclude="100") == [101]
    assert await ids(vmid="101,100,999") == [100, 101]
    assert await ids(pool="p") == [101]
    assert await ids(pool="p", exclude="101") == []
    for values, key in (({"vmid": "999"}, "vmid"), ({"pool": "none"}, "pool"),
                        ({"all": 1, "storage": "none"}, "storage"),
                        ({"all": 1, "fleecing": "1,storage=none"}, "fleecing"), ({"mode": "stop"}, "vmid"),
                        ({"all": 1, "script": "/nowhere/x"}, "script")):  # fmt: skip
        with pytest.raises(InvalidParameter) as refused:
            await vzdump.start(rooms, ROOT, BackupOptions.parse(values))
        assert list(refused.value.errors) == [key]


async def test_a_job_goes_on_without_a_guest_that_is_gone(rooms: Rooms) -> None:
    end, log = await _dump(rooms, {"job": "nightly"}, vmid="100,999", compress="zstd")
    assert end == "job errors"
    assert "ERROR: Backup of VM 999 failed - unable to find VM '999'" in log
    assert [volume.vmid for volume in await _backups(rooms)] == [100]


async def test_who_may_save_whom(rooms: Rooms) -> None:
    async def permit(vmid: int) -> bool:
        return vmid == 101

    with pytest.raises(PermissionDenied, match=r"/vms/100, VM\.Backup"):
        await _dump(rooms, {"permit": permit}, vmid="100,101")
    with pytest.raises(PermissionDenied, match="/vms/998"):
        await _dump(rooms, {"permit": permit}, vmid="998")
    end, _ = await _dump(rooms, {"permit": permit}, all=1)
    assert (end, [volume.vmid for volume in await _backups(rooms)]) == ("OK", [101])


async def test_old_backups_go_and_protected_ones_stay(rooms: Rooms) -> None:
    for count in (1, 2):
        end, log = await _dump(rooms, vmid="100", storage="local", protected=1, prune_backups="keep-last=1")
        assert (end, len(await _backups(rooms, 100))) == ("OK", count), log
    await _dump(rooms, vmid="100", prune_backups="keep-last=1")
    end, log = await _dump(rooms, vmid="100", prune_backups="keep-last=1")
    assert end == "OK"
    assert "INFO: prune older backups with retention: keep-last=1" in log
    assert "INFO: pruned 1 backup(s) not covered by keep-retention policy" in log
    assert sorted(volume.protected for volume in await _backups(rooms, 100)) == [False, True, True]
    end, log = await _dump(rooms, vmid="100", maxfiles=1, remove=0)
    assert end == "job errors"
    assert any("There is a max backup limit of 1" in line for line in log)
    await rooms.storages.update("local", {"max-protected-backups": 2})
    end, log = await _dump(rooms, vmid="100", storage="local", protected=1)
    assert end == "job errors"
    assert any("at most 2" in line for line in log)
    assert len(await _backups(rooms, 100)) == 3


async def test_what_is_cancelled_while_it_gets_its_name_has_it(rooms: Rooms) -> None:
    """The thread that links it goes on, by the number of a descriptor that must not be another file's by then."""
    turns: list[str] = []
    reached = asyncio.Event()

    class Slow(sinks.InFolder):
        async def publish(self) -> int:
            reached.set()
            await asyncio.sleep(0.1)
            turns.append("published")
            return 0

        async def discard(self) -> None:
            turns.append("discarded")

    sink = sinks.FileSink(rooms, Slow(rooms.layout.state / "x"), BackupOptions(), cast(Any, None))
    publishing = asyncio.create_task(sink.publish())
    await reached.wait()
    publishing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await publishing
    assert turns == ["published", "discarded"]


async def test_pruning_spares_what_was_just_made(rooms: Rooms) -> None:
    """A clock that was ahead has left backups with times that are still to come."""
    ahead = rooms.layout.local_storage / "dump/vzdump-lxc-100-2099_01_01-00_00_00.tar"
    ahead.parent.mkdir(parents=True, exist_ok=True)
    ahead.write_bytes(b"of another time")
    end, log = await _dump(rooms, vmid="100", prune_backups="keep-last=1")
    assert end == "WARNINGS: 1"
    assert any("has a later time" in line for line in log)
    assert len(await _backups(rooms, 100)) == 2


async def test_a_script_hears_of_every_turn(rooms: Rooms, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script, told = tmp_path / "hook", tmp_path / "told"
    script.write_text(
        f'#!/bin/sh\necho "$*|$VMTYPE|$HOSTNAME|$STOREID|$DUMPDIR|${{TARGET##*/}}|$LOGFILE" >>{told}\n'
        '[ "$1 $3" != "backup-start 101" ]\n'
    )
    script.chmod(0o700)
    end, log = await _dump(rooms, vmid="100,101", script=str(script), storage="local")
    assert end == "job errors"
    (volume,) = await _backups(rooms)
    file, dump = volume.volid.removeprefix("local:backup/"), rooms.layout.local_storage / "dump"
    lines = [line.split("|") for line in told.read_text().splitlines()]
    assert [line[0] for line in lines] == [
        "job-init", "job-start", "backup-start snapshot 100", "pre-stop snapshot 100", "backup-end snapshot 100",
        "log-end snapshot 100", "backup-start snapshot 101", "backup-abort snapshot 101", "log-end snapshot 101",
        "job-end",
    ]  # fmt: skip
    assert lines[0][1:] == ["", "", "local", "", "", ""]
    assert lines[2][1:6] == ["lxc", "web", "local", str(dump), file]
    assert Path(lines[5][6]) == dump / f"{file.removesuffix('.tar')}.log"
    assert "ERROR: Backup of VM 101 failed - hook script failed in backup-start with exit code 1" in log
    script.chmod(0o600)
    with pytest.raises(InvalidParameter, match="not executable"):
        await _dump(rooms, vmid="100", script=str(script))


async def test_a_folder_of_the_host_gets_whole_archives_alone(
    rooms: Rooms, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "dumps"
    folder.mkdir()
    monkeypatch.setattr(vzdump, "_STORIES", {"lxc": _broken})
    assert (await _dump(rooms, vmid="100", dumpdir=str(folder)))[0] == "job errors"
    assert list(folder.iterdir()) == []
    end, log = await _dump(rooms, vmid="101", dumpdir=str(folder), compress="gzip")
    assert end == "OK", log
    names = sorted(path.name.partition(".")[2] for path in folder.iterdir())
    assert names == ["log", "tar.gz"]
    link = tmp_path / "link"
    link.symlink_to(folder)
    for wrong, words in (
        (link, "a link leads to it"),
        (tmp_path / "none", "does not exist"),
        (link / "x", "not exist"),
    ):
        with pytest.raises(InvalidParameter, match=f"dumpdir: .*{words}"):
            await _dump(rooms, vmid="101", dumpdir=str(wrong))
    assert len(list(folder.iterdir())) == 2


async def test_a_backup_that_is_stopped_leaves_nothing(rooms: Rooms, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = asyncio.Event()

    async def endless(rooms: Rooms, backup: Backup) -> None:
        await _saved(rooms, backup)
        begun.set()
        await asyncio.sleep(60)

    monkeypatch.setattr(vzdump, "_STORIES", {"lxc": endless})
    upid = await vzdump.start(rooms, ROOT, BackupOptions.parse({"vmid": "100"}))
    await begun.wait()
    assert [lock.action for lock in await rooms.locks.list()] == ["backup"]
    assert (await inspect.container_status(rooms, 100))["lock"] == "backup"
    assert await vzdump.stop(rooms, ROOT, all_users=False) == 1
    assert await _end(rooms, upid) == "received interrupt"
    assert (await _backups(rooms), _dumped(rooms), await rooms.locks.list()) == ([], [], [])
    assert "lock" not in await inspect.container_status(rooms, 100)
    assert list((rooms.layout.local_storage / ".incoming").iterdir()) == []


class _Store(FakeStorage):
    """A storage with a store of its own, in memory."""

    def __init__(self, config: StorageConfig, layout: Layout) -> None:
        super().__init__(config, layout)
        self.kept: dict[str, tuple[Mapping[str, bytes], Saving]] = {}
        self.notes: dict[str, Any] = {}

    @property
    def capabilities(self) -> Capabilities:
        return replace(super().capabilities, archives=True)

    async def save_tree(self, name: str, tree: Tree, files: Mapping[str, bytes], saving: Saving) -> None:
        assert (tree.root / "hello").exists()
        self.kept[name] = (files, saving)

    async def info(self, name: str) -> Volume:
        if name not in self.kept:
            raise NotFound(f"volume '{name}' does not exist")
        notes = self.notes.get(name, (None, False))
        known = BackupName.parse(name)
        return Volume(
            f"{self.config.storage}:{name}", "backup", "tar", 7, ctime=known.time, vmid=known.vmid, notes=notes[0],
            protected=bool(notes[1]), subtype=known.kind,
        )  # fmt: skip

    async def list(self, content: Content | None = None, vmid: int | None = None) -> Sequence[Volume]:
        return [await self.info(name) for name in self.kept]

    async def annotate(self, name: str, notes: str | None = None, protected: bool | None = None) -> None:
        self.notes[name] = (notes, protected)

    async def delete(self, name: str) -> None:
        self.kept.pop(name, None)

    async def read_file(self, name: str, file: str) -> bytes:
        return self.kept[name][0][file]

    @contextlib.asynccontextmanager
    async def reading_tree(self, name: str, paths: Sequence[str] = ()) -> AsyncIterator[Stage]:
        yield Stage(["echo", name, *paths], "read")


async def test_a_store_of_its_own_gets_the_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rooms = await fake_rooms(tmp_path, {"dir": _Store})
    for vmid in (100, 101):
        config = {"hostname": f"ct{vmid}", "rootfs": f"local:{vmid}/vm-{vmid}-disk-0.subvol"}
        await rooms.guests.create(Guest(vmid, "lxc", rooms.node, config))
    monkeypatch.setattr(vzdump, "_STORIES", {"lxc": _broken})
    end, log = await _dump(
        rooms, all=1, storage="local", notes_template="{{guestname}}", bwlimit=2, exclude_path=["/srv"], stdexcludes=0,
        compress="zstd", prune_backups="keep-last=1",
    )  # fmt: skip
    assert end == "job errors"
    store = cast(_Store, await rooms.storages.get("local"))
    ((name, (files, saving)),) = store.kept.items()
    assert "-101-" in name, "the one that failed is not kept"
    assert (BackupName.parse(name).extension, files, saving.exclude, saving.rate) == (
        "", {"pct.conf": CONFIG.encode()}, ("/srv",), 2048,
    )  # fmt: skip
    assert "INFO: backup size: 7 B" in log
    volid = f"local:{name}"
    assert (await store.info(name)).notes == "ct101"
    archive = await archives.open_archive(rooms, volid)
    assert (await archive.config(), archive.size, archive.random_access) == (CONFIG, 7, False)
    async with archive.stream(["etc"]) as (stage, source):
        assert (stage.argv, source) == (["echo", name, "etc"], None)
    with pytest.raises(NotSupported, match="no disks"):
        archive.disks()
    await rooms.tasks.shutdown()


async def test_nothing_is_written_to_a_storage_that_is_away(rooms: Rooms, tmp_path: Path) -> None:
    (tmp_path / "nas").mkdir()
    config = StorageConfig.parse({"storage": "nas", "type": "dir", "path": str(tmp_path / "nas"), "content": "backup"})
    await rooms.storages.add(config)
    (tmp_path / "nas").rename(tmp_path / "away")
    end, log = await _dump(rooms, vmid="100", storage="nas")
    assert (end, (tmp_path / "nas").exists()) == ("job errors", False)
    assert any("storage 'nas' is not active" in line for line in log)
    assert [path.name for path in (tmp_path / "away/dump").iterdir()] == []


async def test_a_guest_that_is_busy_fails_in_words(rooms: Rooms) -> None:
    async with rooms.locks.hold(100, "somebody", "move"):
        end, log = await _dump(rooms, vmid="100", lockwait=0)
    assert end == "job errors"
    assert any("somebody (move) works on it" in line for line in log)


async def test_a_guest_that_is_busy_is_waited_for(rooms: Rooms) -> None:
    async with rooms.locks.hold(100, "somebody", "move"):
        upid = await vzdump.start(rooms, ROOT, BackupOptions.parse({"vmid": "100", "lockwait": 1}))
        while not any("waiting up to 1 minutes" in line.t for line in (await rooms.tasks.log(upid, limit=1000))[0]):
            await asyncio.sleep(0.01)
    assert await _end(rooms, upid) == "OK"


async def test_who_is_told(rooms: Rooms, monkeypatch: pytest.MonkeyPatch) -> None:
    mails: list[Any] = []
    posts: list[Any] = []

    async def mail(*values: Any) -> None:
        mails.append(values)

    async def post(url: str, content: Any) -> None:
        posts.append((url, content))
        raise HostFailure("'hook.example' answered HTTP 500")

    monkeypatch.setattr(notify.outbox, "send_mail", mail)
    monkeypatch.setattr(notify.outbox, "post_json", post)
    url = "https://hook.example/secret-token"
    end, log = await _dump(rooms, vmid="100", mailto="ada@example.org,root@pam", webhook=url)
    assert end == "WARNINGS: 1"
    assert mails[0][0] == ["ada@example.org", "root"]
    assert "backup successful" in mails[0][1]
    assert "web" in mails[0][2]
    (sent,) = posts
    assert (sent[0], sent[1]["status"], sent[1]["guests"][0]["vmid"]) == (url, "ok", 100)
    assert "secret-token" not in "\n".join(log)
    await _dump(rooms, vmid="100", mailto="ada@example.org", mailnotification="failure")
    assert len(mails) == 1


async def test_without_a_mail_system_it_is_said(rooms: Rooms, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notify.outbox, "PATH", "/nowhere")
    end, log = await _dump(rooms, vmid="100", mailto="ada@example.org")
    assert end == "WARNINGS: 1"
    assert any("no mail system" in line for line in log)


def test_programs_are_called_as_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sinks.facts, "cpu_count", lambda: 8)

    def words(**values: Any) -> str:
        options = BackupOptions.parse(values)
        return " ".join([*sinks.gentle(options), *sinks.compressor(options)])

    assert words(compress="zstd") == "ionice -c 2 -n 7 nice -n 10 zstd -q -c -T1"
    assert words(compress="zstd", zstd=0, ionice=8) == "ionice -c 3 nice -n 10 zstd -q -c -T4"
    assert words(compress="gzip", pigz=1).endswith("pigz -c -p 4")
    assert words(compress="gzip", pigz=3).endswith("pigz -c -p 3")
    assert words(compress="gzip").endswith("gzip -q -c")
    assert words(compress="1").endswith("lzop -q -c")


async def test_a_program_that_is_missing_is_named(rooms: Rooms, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vzdump, "lacking", lambda _programs: ["pigz"])
    with pytest.raises(NotSupported, match="apt-get install pigz"):
        await _dump(rooms, vmid="100", compress="gzip", pigz=2)


async def test_a_limit_holds(rooms: Rooms, monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[Any] = []

    async def pipeline(stages: Any, **values: Any) -> None:
        limits.append(values["limit"])

    monkeypatch.setattr(sinks, "run_pipeline", pipeline)
    await _dump(rooms, vmid="100", bwlimit=64)
    await _dump(rooms, vmid="100")
    assert limits == [64 * 1024, None]


@settings(deadline=None)
@given(st.data())
def test_a_damaged_beginning_is_told_and_nothing_else(data: st.DataObject) -> None:
    """Headers of strangers: long names upon long names, sizes that are none, anything."""
    buffer = io.BytesIO()
    with tarfile.open(
        fileobj=buffer, mode="w", format=data.draw(st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]))
    ) as tar:
        for name in ("./etc/vzdump/pct.conf", "x" * 300):
            member = tarfile.TarInfo(name)
            member.size = 3
            tar.addfile(member, io.BytesIO(b"a:b"))
    damaged = bytearray(buffer.getvalue())
    for place, value in data.draw(st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), max_size=8)):
        damaged[place] = value
    repeated = bytes(damaged[:1024]) * data.draw(st.sampled_from([0, 1, 1200])) + bytes(damaged)
    with contextlib.suppress(HostFailure):
        assert isinstance(archives.config_of_tar(repeated), str)


def test_names_upon_names_end() -> None:
    member = tarfile.TarInfo("././@LongLink")
    member.type, member.size = tarfile.GNUTYPE_LONGNAME, 10
    chain = (member.tobuf(tarfile.GNU_FORMAT) + b"x" * 512) * 2000
    with pytest.raises(HostFailure, match="does not contain"):
        archives.config_of_tar(chain)


@pytest.mark.parametrize(
    "name", ["vzdump-lxc-100-2026_01_01-00_00_00.tar.gz", "vzdump-lxc-100-2026_01_01-00_00_00.tar"]
)
async def test_an_archive_that_is_not_what_its_name_says_is_refused(rooms: Rooms, tmp_path: Path, name: str) -> None:
    await _dump(rooms, vmid="100", compress="zstd")
    (volume,) = await _backups(rooms)
    file = await (await rooms.storages.files("local", "backup")).file_path(volume.volid.removeprefix("local:"))
    (tmp_path / name).write_bytes(file.read_bytes())
    with pytest.raises(HostFailure, match="its content is zst"):
        await (await archives.open_archive(rooms, str(tmp_path / name))).config()


async def test_an_archive_without_a_configuration_is_none(rooms: Rooms, tmp_path: Path) -> None:
    path = tmp_path / "vzdump-lxc-100-2026_01_01-00_00_00.tar"
    with tarfile.open(path, "w") as archive:
        archive.addfile(tarfile.TarInfo("./etc"))
    opened = await archives.open_archive(rooms, str(path))
    with pytest.raises(HostFailure, match="does not contain a guest configuration"):
        await opened.config()
    link = tarfile.TarInfo("./etc/vzdump/pct.conf")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/shadow"
    with tarfile.open(path, "w") as archive:
        archive.addfile(link)
    with pytest.raises(HostFailure, match="no whole file"):
        await opened.config()
    path.write_bytes(b"")
    with pytest.raises(HostFailure, match="its end is missing"):
        await opened.config()
