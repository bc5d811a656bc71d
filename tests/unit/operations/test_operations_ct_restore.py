"""Containers that come back from their backups, over the fakes; what fails leaves the old one, or nothing."""

import asyncio
import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bastide.base.errors import (
    AlreadyExists,
    BastideError,
    HostFailure,
    InvalidParameter,
    Locked,
    NotFound,
    PermissionDenied,
    WrongState,
)
from bastide.base.ids import Upid, VolumeId
from bastide.base.units import MIB
from bastide.guest.fake import FakeEngine
from bastide.model.access import ROOT, Identity
from bastide.model.backup import BackupName
from bastide.model.container import ContainerConfig, ContainerOptions
from bastide.model.guest import Guest
from bastide.model.snapshot import Snapshot
from bastide.model.storage import StorageConfig
from bastide.operations import pools
from bastide.operations.backup import restoring
from bastide.operations.backup.archives import open_archive
from bastide.operations.backup.restoring import Restore
from bastide.operations.ct import power, restore
from bastide.operations.ct.create import create_container
from bastide.operations.ct.restore import restore_container
from bastide.operations.recover import recover
from bastide.operations.rooms import Rooms
from bastide.operations.volumes import volumes_of
from framework.ct_archives import CONFIG, backup_tar
from framework.rooms import TEMPLATE, fake_rooms

pytestmark = pytest.mark.anyio

_SECONDS = itertools.count()
ANNA = Identity("anna@pve")


@pytest.fixture
async def rooms(tmp_path: Path) -> Rooms:
    """A host with the container 100, whose volumes are folders, and a second storage."""
    rooms = await fake_rooms(tmp_path)
    for name in ("other", "plain"):
        config = StorageConfig(storage=name, type="dir", path=str(tmp_path / name), content="rootdir", format="subvol")
        await rooms.storages.add(config)
    options = ContainerOptions.parse(
        {"hostname": "old", "unprivileged": 1, "rootfs": "local:0", "mp0": "local:0,mp=/data", "memory": 128}
    )
    assert await _end(rooms, await create_container(rooms, ROOT, 100, TEMPLATE, options)) == "OK"
    return rooms


async def _end(rooms: Rooms, upid: Upid) -> str:
    return str((await rooms.tasks.wait(upid)).exitstatus)


def tar(config: str | None = CONFIG, **files: str) -> bytes:
    return backup_tar(config, files)


async def _store(rooms: Rooms, data: bytes) -> str:
    files = await rooms.storages.files("local", "backup")
    name = f"backup/{BackupName('lxc', 105, 1_700_000_000 + next(_SECONDS), '.tar')}"
    incoming = files.incoming(name)
    incoming.write_bytes(data)
    await files.publish(incoming, name)
    return f"local:{name}"


async def _restore(
    rooms: Rooms, data: bytes | None = None, vmid: int = 101, by: Identity = ROOT, **wish: Any
) -> tuple[str, Guest | None]:
    """The end of the task, and the guest."""
    options = ContainerOptions.parse(wish.pop("options", {}))
    archive = await open_archive(rooms, await _store(rooms, tar() if data is None else data))
    upid = await restore_container(rooms, by, vmid, archive, options, wish=Restore(**wish))
    end = await _end(rooms, upid)
    try:
        return end, await rooms.guests.get(vmid)
    except NotFound:
        return end, None


async def _folders(rooms: Rooms) -> set[str]:
    found = set()
    for name in ("local", "other"):
        storage = await rooms.storages.get(name)
        found |= {row.volid for row in await storage.list("rootdir")}
    return found


async def _file(rooms: Rooms, guest: Guest | None, key: str, name: str) -> str:
    assert guest is not None
    volid = VolumeId.parse(str(guest.config[key]).partition(",")[0])
    storage = await rooms.storages.containers(volid.storage)
    return (await storage.activate(volid.name) / name).read_text()


async def test_a_container_comes_back_under_a_free_vmid(rooms: Rooms) -> None:
    end, guest = await _restore(rooms, tar(**{"./srv/data/a": "kept", "./srv/b": "root's"}))
    assert end == "OK"
    assert guest is not None
    config = ContainerConfig.parse(guest.config)
    assert (config.hostname, config.description, config.memory, config.lock) == ("shop", "A shop", 256, None)
    assert config.net[0].hwaddr == "BC:24:11:04:4F:5E"
    assert config.rootfs is not None
    assert (config.rootfs.volume, config.rootfs.size) == ("local:101/vm-101-disk-0.subvol", "64M")
    assert (config.mp[0].volume, config.mp[0].backup) == ("local:101/vm-101-disk-1.subvol", True)
    assert guest.first_id is not None
    assert await _file(rooms, guest, "mp0", "a") == "kept"
    assert await _file(rooms, guest, "rootfs", "srv/b") == "root's"
    assert await rooms.locks.list() == []


async def test_what_is_asked_for_goes_before_the_backup(rooms: Rooms) -> None:
    await pools.create_pool(rooms, "web", None)
    options = {"hostname": "mine", "rootfs": "other:0.125", "net0": "name=eth9,bridge=vmbr0", "cores": 2}
    end, guest = await _restore(
        rooms, tar(**{"./srv/data/a": "kept"}), options=options, pool="web", unique=True, start=True
    )
    assert end == "WARNINGS: 1", "what was in mp0 is in the root"
    assert guest is not None
    config = ContainerConfig.parse(guest.config)
    assert (config.hostname, config.cores, config.memory, config.net[0].name) == ("mine", 2, 256, "eth9")
    assert (config.mp, str(guest.config["rootfs"])) == ({}, "other:101/vm-101-disk-0.subvol,size=128M")
    assert await _file(rooms, guest, "rootfs", "srv/data/a") == "kept"
    assert (await pools.get_pool(rooms, "web")).guests == {101}
    assert 101 in rooms.containers.running()


async def test_unique_gives_new_addresses(rooms: Rooms) -> None:
    _, guest = await _restore(rooms, unique=True, storage="other")
    assert guest is not None
    assert ContainerConfig.parse(guest.config).net[0].hwaddr != "BC:24:11:04:4F:5E"
    assert all(volid.storage == "other" for volid in volumes_of(guest))


async def test_a_container_is_replaced(rooms: Rooms) -> None:
    before = await rooms.guests.get(100)
    end, guest = await _restore(rooms, tar(**{"./new": "1"}), vmid=100, force=True)
    assert end == "OK"
    assert guest is not None
    assert guest.config["hostname"] == "shop"
    assert guest.first_id == before.first_id
    assert not set(volumes_of(guest)) & set(volumes_of(before))
    assert await _folders(rooms) == {str(volid) for volid in volumes_of(guest)}
    assert await _file(rooms, guest, "rootfs", "new") == "1"
    # And once more: numbers of volumes are taken again.
    end, guest = await _restore(rooms, vmid=100, force=True)
    assert (end, await _folders(rooms)) == ("OK", {str(volid) for volid in volumes_of(guest)})  # type: ignore[arg-type]


async def test_a_privileged_one_is_replaced_by_an_unprivileged_one_and_back(rooms: Rooms) -> None:
    _, guest = await _restore(rooms, vmid=100, force=True, options={"unprivileged": 0})
    assert guest is not None
    assert guest.first_id is None
    _, guest = await _restore(rooms, vmid=100, force=True)
    assert guest is not None
    assert guest.first_id is not None


class Hanging:
    """A step that never comes to its end."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self._ended = asyncio.Event()
        self._gone = asyncio.Event()

    async def __call__(self, *_: object, **__: object) -> None:
        self.reached.set()
        try:
            await self._ended.wait()
        finally:
            self._gone.set()
        raise HostFailure("it is dead")

    async def end(self) -> None:
        """What is left of it goes with the test."""
        self._ended.set()
        await self._gone.wait()


BROKEN = {
    # With an end, so that it is taken for whole until it is read.
    "truncated": tar(**{"./a": "x" * 5000})[:3072] + bytes(1024),
    "unpacking": tar(),
}


@pytest.mark.parametrize("how", BROKEN)
@pytest.mark.parametrize("vmid", [100, 101])
async def test_what_fails_leaves_the_old_one_or_nothing(rooms: Rooms, how: str, vmid: int) -> None:
    before, folders = await rooms.guests.get(100), await _folders(rooms)
    engine = rooms.containers
    assert isinstance(engine, FakeEngine)
    if how == "unpacking":
        engine.fail_next["unpack"] = HostFailure("no")
    end, guest = await _restore(rooms, BROKEN[how], vmid=vmid, force=True, start=True)
    assert end not in ("OK", "None")
    assert guest == (before if vmid == 100 else None)
    assert await rooms.guests.get(100) == before
    assert await _folders(rooms) == folders
    assert await rooms.locks.list() == []
    assert (await _restore(rooms, vmid=vmid, force=True))[0] == "OK"


async def test_a_task_that_is_stopped_leaves_the_old_one(rooms: Rooms, monkeypatch: pytest.MonkeyPatch) -> None:
    before, folders = await rooms.guests.get(100), await _folders(rooms)
    hanging = Hanging()
    monkeypatch.setattr(restore, "_unpack", hanging)
    archive = await open_archive(rooms, await _store(rooms, tar()))
    upid = await restore_container(rooms, ROOT, 100, archive, ContainerOptions(), wish=Restore(force=True))
    await hanging.reached.wait()
    await rooms.tasks.stop(upid)
    assert await _end(rooms, upid) == "received interrupt"
    assert (await rooms.guests.get(100), await _folders(rooms)) == (before, folders)


async def test_a_task_that_is_stopped_at_the_end_still_removes_the_old_volumes(
    rooms: Rooms, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without its lock nobody would know whose they are."""
    reached, go_on = asyncio.Event(), asyncio.Event()
    delete = restoring.delete_volumes

    async def slowly(*arguments: Any) -> list[str]:
        reached.set()
        await go_on.wait()
        return await delete(*arguments)

    monkeypatch.setattr(restoring, "delete_volumes", slowly)
    archive = await open_archive(rooms, await _store(rooms, tar()))
    upid = await restore_container(rooms, ROOT, 100, archive, ContainerOptions(), wish=Restore(force=True))
    await reached.wait()
    await rooms.tasks.stop(upid)
    await asyncio.sleep(0.05)
    assert [lock.vmid for lock in await rooms.locks.list()] == [100]
    go_on.set()
    assert await _end(rooms, upid) == "received interrupt"
    guest = await rooms.guests.get(100)
    assert guest.config["hostname"] == "shop"
    assert await _folders(rooms) == {str(volid) for volid in volumes_of(guest)}


@pytest.mark.parametrize("late", [False, True])
async def test_a_restart_carries_on(rooms: Rooms, monkeypatch: pytest.MonkeyPatch, late: bool) -> None:
    """The daemon dies before or after the record has changed over."""
    before, folders = await rooms.guests.get(100), await _folders(rooms)
    hanging = Hanging()
    place = "bastide.operations.backup.restoring._free" if late else "bastide.operations.ct.restore.change_over"
    monkeypatch.setattr(place, hanging)
    archive = await open_archive(rooms, await _store(rooms, tar()))
    await restore_container(rooms, ROOT, 100, archive, ContainerOptions(), wish=Restore(force=True))
    await hanging.reached.wait()
    await recover(rooms)
    guest = await rooms.guests.get(100)
    assert guest.config["hostname"] == ("shop" if late else "old")
    assert await _folders(rooms) == ({str(volid) for volid in volumes_of(guest)} if late else folders)
    assert late or guest == before
    await hanging.end()


async def test_a_half_made_one_is_removed_by_a_restart(rooms: Rooms, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = await _folders(rooms)
    hanging = Hanging()
    monkeypatch.setattr(restore, "_unpack", hanging)
    archive = await open_archive(rooms, await _store(rooms, tar()))
    await restore_container(rooms, ROOT, 101, archive, ContainerOptions(), wish=Restore())
    await hanging.reached.wait()
    await recover(rooms)
    with pytest.raises(NotFound):
        await rooms.guests.get(101)
    assert await _folders(rooms) == folders
    await hanging.end()


async def test_snapshots_go_with_what_is_replaced(rooms: Rooms) -> None:
    guest = await rooms.guests.get(100)
    made = Snapshot("before", 1, dict(guest.config), tuple(str(volid) for volid in volumes_of(guest)))
    await rooms.guests.update(replace(guest, snapshots={"before": made}))
    end, restored = await _restore(rooms, vmid=100, force=True)
    assert end == "WARNINGS: 1"
    assert restored is not None
    assert restored.snapshots == {}


async def test_what_is_refused_at_once(rooms: Rooms) -> None:
    folders = await _folders(rooms)
    refused: list[tuple[dict[str, Any], type[BastideError], str]] = [
        ({"vmid": 100}, AlreadyExists, "unable to restore CT 100 - CT 100 already exists on node 'pve'"),
        ({"pool": "none"}, NotFound, "pool 'none'"),
        ({"storage": "none"}, NotFound, "storage 'none' does not exist"),
        ({"data": tar(None)}, HostFailure, "does not contain a guest configuration"),
        ({"data": tar("memory: 512\n")}, InvalidParameter, "rootfs: the backup does not tell its size"),
        ({"data": tar(CONFIG + "\n\0")}, InvalidParameter, "control character"),
        ({"data": tar(CONFIG.replace("64M", "9999999T"))}, InvalidParameter, "rootfs: the backup says"),
        ({"data": tar(CONFIG.replace("64M", "9000T"))}, InvalidParameter, "rootfs: .* do not fit"),
        ({"options": {"mp1": "local:1,mp=/x"}}, InvalidParameter, "rootfs: mount points are given"),
        ({"options": {"rootfs": "local:100/vm-100-disk-0.subvol"}}, InvalidParameter, "rootfs: .*no new volume"),
        ({"options": {"net1": "name=eth1,bridge=none"}}, InvalidParameter, "net1"),
        ({"data": tar(CONFIG.replace("rootfs: tank:subvol-105-disk-0", "rootfs: /etc"))}, InvalidParameter, "rootfs"),
        ({"by": ANNA, "data": tar(CONFIG + "mp1: /etc,mp=/mnt\n")}, PermissionDenied, "mp1: restoring mount point"),
    ]
    for wish, error, text in refused:
        with pytest.raises(error, match=text):
            await _restore(rooms, **wish)
    assert [guest.vmid for guest in await rooms.guests.list()] == [100]
    assert await _folders(rooms) == folders


async def test_what_may_not_be_replaced(rooms: Rooms) -> None:
    guest = await rooms.guests.get(100)
    for change, error, text in [
        ({"protection": 1}, WrongState, "unable to restore CT 100 - protection mode enabled"),
        ({"lock": "backup"}, Locked, r"CT is locked \(backup\)"),
    ]:
        guest = await rooms.guests.update(guest.with_config({**guest.config, **change}))
        with pytest.raises(error, match=text):
            await _restore(rooms, vmid=100, force=True)
        guest = await rooms.guests.update(
            guest.with_config({key: value for key, value in guest.config.items() if key not in change})
        )
    await rooms.tasks.wait(await power.start(rooms, ROOT, 100))
    with pytest.raises(WrongState, match="can't overwrite running container"):
        await _restore(rooms, vmid=100, force=True)


async def test_a_guest_that_changes_meanwhile_is_not_replaced(rooms: Rooms) -> None:
    archive = await open_archive(rooms, await _store(rooms, tar()))
    async with rooms.locks.hold(100, "somebody", "changes"):
        upid = await restore_container(rooms, ROOT, 100, archive, ContainerOptions(), wish=Restore(force=True))
        guest = await rooms.guests.get(100)
        await rooms.guests.update(guest.with_config({**guest.config, "memory": 999}))
    assert "has been changed" in await _end(rooms, upid)


async def test_others_than_root_get_nothing_of_the_host(rooms: Rooms) -> None:
    evil = CONFIG.replace("nesting=1", "nesting=1,keyctl=1,mount=nfs") + (
        "dev0: /dev/kvm\nhookscript: local:snippets/x.sh\nlxc.mount.entry: / mnt none bind\nlxc.idmap: u 0 0 65536\n"
    )
    end, guest = await _restore(rooms, tar(evil), by=ANNA)
    assert end == "WARNINGS: 4"
    assert guest is not None
    assert guest.config["features"] == "nesting=1"
    assert not {"dev0", "hookscript", "lxc.idmap"} & guest.config.keys()
    # What root gave to that very guest stays.
    end, guest = await _restore(rooms, tar(evil.replace("dev0: /dev/kvm\n", "")), vmid=102)
    assert end == "WARNINGS: 1"
    end, guest = await _restore(rooms, tar(evil), vmid=102, by=ANNA, force=True)
    assert guest is not None
    assert "keyctl=1" in str(guest.config["features"])
    assert guest.config["hookscript"] == "local:snippets/x.sh"
    assert "dev0" not in guest.config


async def test_permission_is_asked_about_all_of_it(rooms: Rooms) -> None:
    asked: list[ContainerOptions] = []

    async def permit(options: ContainerOptions) -> None:
        asked.append(options)
        raise PermissionDenied("no")

    with pytest.raises(PermissionDenied):
        await _restore(rooms, by=ANNA, permit=permit, options={"cores": 3})
    assert (asked[0].cores, asked[0].net[0].bridge) == (3, "vmbr0")
    with pytest.raises(NotFound):
        await rooms.guests.get(101)


async def test_folders_of_the_host_stay_for_root(rooms: Rooms, tmp_path: Path) -> None:
    end, guest = await _restore(rooms, tar(CONFIG + f"mp1: {tmp_path},mp=/mnt,ro=1\n", **{"./mnt/x": "1"}))
    assert end == "WARNINGS: 1"
    assert guest is not None
    assert guest.config["mp1"] == f"{tmp_path},ro=1,mp=/mnt"
    assert not (tmp_path / "x").exists()


async def test_a_bridge_that_is_not_here_is_told(rooms: Rooms) -> None:
    end, guest = await _restore(rooms, tar(CONFIG.replace("vmbr0", "vmbr7")))
    assert end == "WARNINGS: 1"
    assert guest is not None


async def test_a_bomb_is_ended(rooms: Rooms, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restore, "GIB", 0)
    config = CONFIG.replace("64M", "64K").replace("32M", "32K")
    end, guest = await _restore(rooms, tar(config, **{"./zeros": "\0" * MIB}))
    assert "unpacks to more than the 384 KiB it may" in end
    assert guest is None


async def test_errors_of_tar_can_be_borne(rooms: Rooms) -> None:
    data = tar(**{"./a": "1", "./a/b": "2", "./c": "3"})
    end, guest = await _restore(rooms, data)
    assert guest is None
    assert "could not be unpacked" in end
    end, guest = await _restore(rooms, data, ignore_errors=True)
    assert end.startswith("WARNINGS")
    assert await _file(rooms, guest, "rootfs", "c") == "3"


async def test_a_vms_backup_is_none_of_a_container(rooms: Rooms, tmp_path: Path) -> None:
    file = tmp_path / "vzdump-qemu-100-2026_11_23-01_02_03.vma"
    file.write_bytes(b"x")
    archive = await open_archive(rooms, str(file))
    with pytest.raises(InvalidParameter, match="not a container's backup"):
        await restore_container(rooms, ROOT, 101, archive, ContainerOptions(), wish=Restore())
