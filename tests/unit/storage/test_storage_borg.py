"""The storage type `borg`, with the real program and small repositories."""

import asyncio
import os
import shutil
import struct
import tarfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bastide.base.errors import (
    AlreadyExists,
    HostFailure,
    InvalidParameter,
    NoSpace,
    NotFound,
    NotSupported,
    WrongState,
)
from bastide.base.layout import Layout
from bastide.host import borg, filesystems, qemu_nbd
from bastide.host.disk_views import SEGMENT
from bastide.host.run import run
from bastide.model.backup import DiskExport, Tree
from bastide.model.storage import StorageConfig
from bastide.storage import secrets
from bastide.storage.borg import BorgStorage
from bastide.storage.borg_files import About
from bastide.storage.protocol import ArchiveStorage, Saving
from framework.disposable import mounted

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(os.geteuid() != 0, reason="runs borg confined and mounts FUSE file systems"),
]

CONFIG = {"pct.conf": b"hostname: web\n"}
FIRST, SECOND = "backup/vzdump-lxc-100-2026_11_23-01_02_03", "backup/vzdump-lxc-100-2026_11_24-01_02_03"
VM = "backup/vzdump-qemu-101-2026_11_23-01_02_03"


@pytest.fixture(scope="module", autouse=True)
def template(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A repository to be copied: that takes a tenth of making one."""
    root = tmp_path_factory.mktemp("template")
    asyncio.run(stored(root).prepare())
    PREPARED.append(root / "vault")
    yield root
    PREPARED.clear()


PREPARED: list[Path] = []


async def made(root: Path, **options: object) -> BorgStorage:
    """A storage that is ready."""
    if not options and not (root / "vault").exists():
        shutil.copytree(PREPARED[0], root / "vault")
    storage = stored(root, **options)
    await storage.prepare()
    return storage


def stored(root: Path, passphrase: str = "a secret", **options: object) -> BorgStorage:
    """A storage of a host of its own."""
    layout = Layout(root / "host")
    layout.state.mkdir(parents=True, exist_ok=True)
    values = {"storage": "vault", "type": "borg", "path": str(root / "vault"), **options}
    secrets.keep(layout, "vault", "passphrase", passphrase)
    return BorgStorage(StorageConfig.parse(values), layout)


def guest(root: Path, first_id: int = 0) -> Tree:
    """A small container's files."""
    folder = root / "guest"
    (folder / "etc").mkdir(parents=True)
    (folder / "etc/hostname").write_text("web\n")
    (folder / "etc/hostname").chmod(0o640)
    (folder / "bin").mkdir()
    (folder / "bin/ping").write_bytes(os.urandom(70000))
    os.setxattr(folder / "bin/ping", "user.note", b"binary \0 value")
    os.link(folder / "bin/ping", folder / "bin/ping6")
    (folder / "bin/link").symlink_to("/etc/passwd")
    long = folder / "/".join(["d" * 80] * 3)
    long.mkdir(parents=True)
    (long / "file").write_text("far down")
    os.setxattr(long / "file", "user.deep", b"1")
    for path in [folder, *folder.rglob("*")]:
        os.chown(path, first_id, first_id, follow_symlinks=False)
    os.chown(folder / "etc/hostname", first_id + 33, first_id + 44)
    return Tree(folder, first_id)


async def unpacked(storage: ArchiveStorage, name: str, target: Path, paths: tuple[str, ...] = ()) -> Path:
    """What a backup holds, unpacked by tar(1)."""
    target.mkdir()
    async with storage.reading_tree(name, paths) as stage:
        done = await run(stage.argv, pass_fds=stage.pass_fds, deadline=60)
    argv = ["/bin/tar", "-C", str(target), "-x", "-p", "--xattrs", "--xattrs-include=*", "--acls", "--numeric-owner"]
    await run(argv, input=done.stdout)
    return target


@pytest.mark.parametrize("first_id", [0, 300000])
async def test_a_container_comes_back_as_it_was(tmp_path: Path, first_id: int) -> None:
    storage = await made(tmp_path)
    tree = guest(tmp_path, first_id)
    os.setxattr(tree.root / "etc", "system.posix_acl_access", _access_list(first_id + 55))
    await storage.save_tree(FIRST, tree, CONFIG, Saving())
    target = await unpacked(storage, FIRST, tmp_path / "back")
    status = (target / "etc/hostname").stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o7777) == (33, 44, 0o640)
    assert (target / "etc/hostname").read_text() == "web\n"
    assert os.getxattr(target / "bin/ping", "user.note") == b"binary \0 value"
    assert (target / "bin/ping").read_bytes() == (tree.root / "bin/ping").read_bytes()
    assert (target / "bin/ping").stat().st_ino == (target / "bin/ping6").stat().st_ino
    assert os.readlink(target / "bin/link") == "/etc/passwd"
    deep = target / "/".join(["d" * 80] * 3) / "file"
    assert deep.read_text() == "far down"
    assert os.getxattr(deep, "user.deep") == b"1"
    assert sorted(os.listdir(target)) == ["bin", "d" * 80, "etc"]
    assert os.getxattr(target / "etc", "system.posix_acl_access") == _access_list(55)
    assert await storage.read_file(FIRST, "pct.conf") == CONFIG["pct.conf"]
    assert _owners(tmp_path / "vault") == {0}


def _access_list(user: int) -> bytes:
    """One that lets a user read and write, as the kernel has it (linux/posix_acl_xattr.h)."""
    entries = [(1, 7, 2**32 - 1), (2, 6, user), (4, 5, 2**32 - 1), (16, 7, 2**32 - 1), (32, 5, 2**32 - 1)]
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def _owners(folder: Path) -> set[int]:
    return {path.lstat().st_uid for path in folder.rglob("*")}


async def test_volumes_are_at_their_places_and_patterns_leave_files_out(tmp_path: Path) -> None:
    storage = await made(tmp_path)
    tree = guest(tmp_path)
    (tree.root / "srv/data").mkdir(parents=True)
    volume = tmp_path / "volume"
    volume.mkdir()
    (volume / "kept").write_text("kept")
    (volume / "a.tmp").write_text("not")
    (tree.root / "etc/kept").mkdir()
    (tree.root / "etc/kept/x").write_text("not")
    saving = Saving(exclude=["*.tmp", "/etc/kept/?*"])
    await storage.save_tree(FIRST, Tree(tree.root, 0, {"/srv/data": volume}), CONFIG, saving)
    target = await unpacked(storage, FIRST, tmp_path / "back")
    assert os.listdir(target / "srv/data") == ["kept"]
    assert os.listdir(target / "etc/kept") == []


async def test_a_link_of_a_guests_leads_nowhere(tmp_path: Path) -> None:
    storage = await made(tmp_path)
    (tmp_path / "guest").mkdir()
    (tmp_path / "guest/srv").symlink_to(tmp_path)
    with pytest.raises(HostFailure):
        await storage.save_tree(FIRST, Tree(tmp_path / "guest", 0, {"/srv/host": tmp_path}), CONFIG, Saving())
    assert await storage.list() == []


async def test_a_file_that_did_not_change_is_not_read_again(tmp_path: Path) -> None:
    storage = await made(tmp_path)
    tree = guest(tmp_path)
    await storage.save_tree(FIRST, tree, CONFIG, Saving())
    before = await _read_bytes(tmp_path)
    (tree.root / "etc/new").write_text("new")
    await storage.save_tree(SECOND, tree, CONFIG, Saving())
    # As many files as the first one knew are known again, the newest of them, too.
    assert before > 0
    target = await unpacked(storage, SECOND, tmp_path / "back", ("etc/new", "bin"))
    assert (target / "etc/new").read_text() == "new"
    assert (target / "bin/ping6").read_bytes() == (tree.root / "bin/ping").read_bytes()
    assert not (target / "etc/hostname").exists()
    assert os.listdir(await unpacked(storage, SECOND, tmp_path / "none", ("etc/none",))) == []


async def _read_bytes(root: Path) -> int:
    caches = [*(root / "host/state/borg/vault").glob(".cache/borg/*/files.lxc-100")]
    return sum(path.stat().st_size for path in caches)


async def test_listing_notes_and_protection(tmp_path: Path) -> None:
    storage = await made(tmp_path)
    await storage.save_tree(FIRST, guest(tmp_path), CONFIG, Saving())
    volume = await storage.info(FIRST)
    assert (volume.volid, volume.vmid, volume.subtype, volume.protected) == (f"vault:{FIRST}", 100, "lxc", False)
    assert volume.size >= 70000
    assert volume.ctime == int(time.mktime((2026, 11, 23, 1, 2, 3, 0, 0, -1)))
    await storage.annotate(FIRST, notes="before the\nupgrade", protected=True)
    volume = await storage.info(FIRST)
    assert (volume.notes, volume.protected) == ("before the\nupgrade", True)
    await storage.annotate(FIRST, notes="")
    assert (await storage.info(FIRST)).notes is None
    assert await storage.list("backup", 101) == []
    assert await storage.list("iso") == []
    with pytest.raises(AlreadyExists):
        await storage.save_tree(FIRST, Tree(tmp_path / "guest"), CONFIG, Saving())
    await storage.annotate(FIRST, protected=False)
    await storage.delete(FIRST)
    await storage.delete(FIRST)
    assert await storage.list() == []
    assert os.listdir(tmp_path / "vault/about") == []
    with pytest.raises(NotFound):
        await storage.info(FIRST)
    with pytest.raises(NotFound):
        await storage.read_file(FIRST, "pct.conf")
    with pytest.raises(InvalidParameter):
        await storage.info("backup/../../etc/passwd")
    with pytest.raises(InvalidParameter):
        await storage.info(f"{FIRST}.tar.zst")


@asynccontextmanager
async def exported(root: Path, disks: Mapping[str, Path]) -> AsyncIterator[list[DiskExport]]:
    """Raw images served as NBD."""
    sockets = root / f"nbd{time.monotonic_ns()}"
    sockets.mkdir()
    path = next(iter(disks.values()))
    async with qemu_nbd.serving(path, folder=sockets) as socket:
        yield [DiskExport(key, socket, path.stat().st_size) for key in disks]


async def test_a_disk_comes_back_and_only_what_changed_is_new(tmp_path: Path) -> None:
    storage = await made(tmp_path)
    disk = tmp_path / "disk"
    with disk.open("wb") as file:
        file.truncate(8 * SEGMENT + 512)
        for number in (0, 2, 3, 7):
            file.seek(number * SEGMENT + 99)
            file.write(os.urandom(SEGMENT))
    async with exported(tmp_path, {"scsi0": disk}) as exports:
        await storage.save_disks(VM, exports, {"qemu-server.conf": b"memory: 512\n"}, Saving())
    async with storage.reading_disks(VM) as files:
        assert await asyncio.to_thread(lambda: files["scsi0"].read_bytes() == disk.read_bytes())
    assert await storage.read_file(VM, "qemu-server.conf") == b"memory: 512\n"
    await _join_by_hand(tmp_path, disk.stat().st_size)
    assert await asyncio.to_thread(lambda: (tmp_path / "hand/scsi0.raw").read_bytes() == disk.read_bytes())
    before = _size(tmp_path / "vault/repository")
    with disk.open("r+b") as file:
        file.seek(2 * SEGMENT)
        file.write(os.urandom(4096))
    later = VM.replace("_23-", "_24-")
    async with exported(tmp_path, {"scsi0": disk}) as exports:
        await storage.save_disks(later, exports, {}, Saving())
    assert _size(tmp_path / "vault/repository") - before < 2 * SEGMENT
    async with storage.reading_disks(later) as files:
        assert await asyncio.to_thread(lambda: files["scsi0"].read_bytes() == disk.read_bytes())
    assert filesystems.mounts_within(tmp_path) == []
    assert os.listdir(tmp_path / "vault/views") == []


async def _join_by_hand(root: Path, size: int) -> None:
    """As docs/borg.md tells."""
    folder = root / "hand"
    folder.mkdir()
    script = f"""
        borg extract ../vault/repository::{VM.removeprefix("backup/")}
        truncate -s {size} scsi0.raw
        for part in disks/scsi0/*; do
            dd if="$part" of=scsi0.raw bs=4M seek=$((0x${{part##*/}})) conv=notrunc status=none
        done"""
    environment = {"BORG_PASSPHRASE": "a secret", "BORG_BASE_DIR": str(root / "own")}
    environment |= {"BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes"}
    await run(["/bin/sh", "-ec", script], env=environment, cwd=folder)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


async def test_a_disk_that_cannot_be_read_leaves_no_backup(tmp_path: Path) -> None:
    storage = await made(tmp_path)
    disk = tmp_path / "disk"
    disk.write_bytes(os.urandom(30 * SEGMENT))
    async with exported(tmp_path, {"scsi0": disk}) as exports:
        saving = asyncio.create_task(storage.save_disks(VM, exports, {}, Saving(rate=2 * SEGMENT)))
        while not filesystems.mounts_within(tmp_path):
            await asyncio.sleep(0.05)
    with pytest.raises(HostFailure, match="not everything could be read"):
        await saving
    assert await storage.list() == []
    assert [found.name for found in await borg.archives(storage._repository)] == []


async def test_what_was_cut_short_is_hidden_and_removed(tmp_path: Path) -> None:
    storage = await made(tmp_path)
    tree = guest(tmp_path)
    await storage.save_tree(FIRST, tree, CONFIG, Saving())
    name = FIRST.removeprefix("backup/")
    (tmp_path / f"vault/about/{name}.{storage._host}.saving").touch()
    lock = tmp_path / "vault/repository/lock.exclusive"
    lock.mkdir()
    # The process id is somebody else's again.
    (lock / f"{storage._repository.host}.{os.getpid()}-0").touch()
    again = await made(tmp_path)
    assert await again.list() == []
    await again.save_tree(FIRST, tree, CONFIG, Saving())
    assert [volume.volid for volume in await again.list()] == [f"vault:{FIRST}"]


async def test_another_hosts_backup_of_the_same_name_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two hosts whose jobs begin in the same second, with guests of the same vmid, share a repository."""
    tree, name = guest(tmp_path), FIRST.removeprefix("backup/")
    storage = await made(tmp_path)
    create = borg.create

    async def meanwhile(*arguments: object, **options: object) -> int:
        monkeypatch.setattr(borg, "create", create)
        monkeypatch.setattr(os, "uname", lambda: replaced_name(uname))
        other = await made(tmp_path)
        assert other._host != storage._host
        other._writing = asyncio.Lock()
        await other.save_tree(FIRST, tree, CONFIG, Saving())
        monkeypatch.setattr(os, "uname", uname)
        return await create(*arguments, **options)  # type: ignore[arg-type]

    uname = os.uname
    monkeypatch.setattr(borg, "create", meanwhile)
    with pytest.raises(AlreadyExists):
        await storage.save_tree(FIRST, tree, CONFIG, Saving())
    assert [volume.volid for volume in await storage.list()] == [f"vault:{FIRST}"]
    # A process that dies before it hears of that leaves its mark.
    (tmp_path / f"vault/about/{name}.{storage._host}.saving").touch()
    await storage.delete(SECOND)
    assert [volume.volid for volume in await storage.list()] == [f"vault:{FIRST}"]


def replaced_name(uname: Callable[[], os.uname_result]) -> os.uname_result:
    """What another machine says of itself."""
    return os.uname_result(("Linux", "elsewhere", *uname()[2:]))


async def test_a_protected_backup_is_not_removed(tmp_path: Path) -> None:
    """Also one that was protected since a pruning began, or of which nobody can tell any more."""
    storage = await made(tmp_path)
    await storage.save_tree(FIRST, guest(tmp_path), CONFIG, Saving())
    await storage.annotate(FIRST, protected=True)
    with pytest.raises(WrongState, match="protected"):
        await storage.delete(FIRST)
    beside = tmp_path / f"vault/about/{FIRST.removeprefix('backup/')}.json"
    beside.write_text('{"size": 5, "prot')
    assert (await (await made(tmp_path)).info(FIRST)).protected
    beside.unlink()
    beside.symlink_to("/etc/hostname")
    assert (await (await made(tmp_path)).info(FIRST)).protected
    with pytest.raises(WrongState, match="protected"):
        await storage.delete(FIRST)
    beside.unlink()
    await storage.delete(FIRST)
    assert await storage.list() == []


async def test_cancelled_in_the_middle(tmp_path: Path) -> None:
    storage = await made(tmp_path)
    tree = guest(tmp_path)
    (tree.root / "big").write_bytes(os.urandom(30 << 20))
    saving = asyncio.create_task(storage.save_tree(FIRST, tree, CONFIG, Saving(rate=4 << 20)))
    await asyncio.sleep(2)
    saving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await saving
    assert await storage.list() == []
    await storage.save_tree(SECOND, tree, CONFIG, Saving())
    assert [volume.volid for volume in await storage.list()] == [f"vault:{SECOND}"]


async def test_a_containers_folders_are_listed(tmp_path: Path) -> None:
    storage = await made(tmp_path)
    await storage.save_tree(FIRST, guest(tmp_path), CONFIG, Saving())
    assert {("bin", "d"), ("etc", "d")} <= {(row.name, row.type) for row in await storage.list_tree(FIRST, "")}
    found = {row.name: (row.type, row.size) for row in await storage.list_tree(FIRST, "bin")}
    assert found == {"ping": ("f", 70000), "ping6": ("h", 0), "link": ("l", 11)} or found == {
        "ping": ("h", 0), "ping6": ("f", 70000), "link": ("l", 11),
    }  # fmt: skip
    for path in ("etc/hostname", "none", "et", "[e]tc", "bin/link"):
        with pytest.raises(NotFound, match="does not exist"):
            await storage.list_tree(FIRST, path)


async def test_what_an_archive_tells_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of zeros takes nothing in a repository, and the daemon would hold it in memory."""
    storage = await made(tmp_path)
    await storage.save_tree(FIRST, guest(tmp_path), {"pct.conf": bytes(3 << 20)}, Saving())
    with pytest.raises(HostFailure, match="more than 2 MiB"):
        await storage.read_file(FIRST, "pct.conf")
    monkeypatch.setattr(borg, "_LISTED", 300)
    with pytest.raises(HostFailure, match="more than 300"):
        await storage.list_tree(FIRST, "bin")


async def test_a_backup_whose_removal_fails_is_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that dies in it leaves nothing that no backup is for."""
    storage = await made(tmp_path)
    await storage.save_tree(FIRST, guest(tmp_path), CONFIG, Saving())
    await storage.annotate(FIRST, notes="kept")
    beside: list[str] = []

    async def fail(*_arguments: object) -> None:
        beside.extend(os.listdir(tmp_path / "vault/about"))
        raise HostFailure("no answer")

    with monkeypatch.context() as patch:
        patch.setattr(borg, "delete", fail)
        with pytest.raises(HostFailure, match="no answer"):
            await storage.delete(FIRST)
    assert beside == []
    assert (await storage.info(FIRST)).notes == "kept"
    await storage.delete(FIRST)
    assert os.listdir(tmp_path / "vault/about") == []


async def test_a_full_disk(tmp_path: Path) -> None:
    with mounted("xfs", tmp_path, 700 << 20) as disk:
        storage = await made(tmp_path, path=str(disk / "vault"))
        tree = guest(tmp_path)
        await storage.save_tree(FIRST, tree, CONFIG, Saving())
        (tree.root / "big").write_bytes(os.urandom(250 << 20))
        with pytest.raises(NoSpace):
            await storage.save_tree(SECOND, tree, CONFIG, Saving())
        assert [volume.volid for volume in await storage.list()] == [f"vault:{FIRST}"]
        (tree.root / "big").unlink()
        await storage.save_tree(SECOND, tree, CONFIG, Saving())
        await storage.delete(FIRST)
        assert [volume.volid for volume in await storage.list()] == [f"vault:{SECOND}"]
        assert os.listdir(disk / "vault/about") == [f"{SECOND.removeprefix('backup/')}.json"]


async def test_reading_goes_on_while_something_is_written_and_deleted(tmp_path: Path) -> None:
    storage = await made(tmp_path)
    tree = guest(tmp_path)
    await storage.save_tree(FIRST, tree, CONFIG, Saving())
    async with storage.reading_tree(FIRST) as stage:
        await storage.save_tree(SECOND, tree, CONFIG, Saving())
        await storage.delete(FIRST)
        done = await run(stage.argv, pass_fds=stage.pass_fds)
    (tmp_path / "x.tar").write_bytes(done.stdout)
    with tarfile.open(tmp_path / "x.tar") as members:
        assert "etc/hostname" in members.getnames()
    assert [volume.volid for volume in await storage.list()] == [f"vault:{SECOND}"]


async def test_verify_finds_what_is_damaged(tmp_path: Path) -> None:
    storage = await made(tmp_path)
    tree = guest(tmp_path)
    (tree.root / "big").write_bytes(os.urandom(3 << 20))
    await storage.save_tree(FIRST, tree, CONFIG, Saving())
    await storage.verify(FIRST)
    segment = max((tmp_path / "vault/repository/data").rglob("*"), key=lambda path: path.stat().st_size)
    with segment.open("r+b") as file:
        file.seek(2 << 20)
        file.write(b"damage")
    with pytest.raises(HostFailure, match="storage 'vault'"):
        await storage.verify(FIRST)


async def test_the_passphrase_is_needed(tmp_path: Path) -> None:
    await made(tmp_path)
    with pytest.raises(HostFailure, match="the passphrase is not that of the repository"):
        await made(tmp_path, passphrase="another")
    key = await (await made(tmp_path)).export_key()
    assert key.startswith("BORG_KEY ")


async def test_a_repository_in_its_place_that_is_not_encrypted_gets_nothing(tmp_path: Path) -> None:
    """Whoever can write where the repository lies must not have guests' data in plain."""
    storage = await made(tmp_path)
    shutil.rmtree(tmp_path / "vault/repository")
    plain = borg.Repository(tmp_path / "vault/repository", tmp_path / "theirs", "theirs")
    await borg.init(plain, "none")
    with pytest.raises(HostFailure, match="not encrypted"):
        await storage.save_tree(FIRST, guest(tmp_path), CONFIG, Saving())
    assert await borg.archives(plain) == []


async def test_without_encryption(tmp_path: Path) -> None:
    storage = await made(tmp_path, encryption="none", compression="zstd,3")
    await storage.save_tree(FIRST, guest(tmp_path), CONFIG, Saving())
    assert await storage.read_file(FIRST, "pct.conf") == CONFIG["pct.conf"]
    with pytest.raises(NotSupported):
        await storage.export_key()


async def test_a_folder_that_holds_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "vault").mkdir()
    (tmp_path / "vault/letters").touch()
    with pytest.raises(HostFailure, match="holds something else: 'letters'"):
        await made(tmp_path)
    assert os.listdir(tmp_path / "vault") == ["letters"]


async def test_a_repository_that_is_gone_is_not_made_anew(tmp_path: Path) -> None:
    storage = await made(tmp_path)
    assert (await storage.usage()).active
    (tmp_path / "vault/repository").rename(tmp_path / "away")
    assert not (await storage.usage()).active
    for folder in ("about", "views"):
        with pytest.raises(HostFailure, match="vault"):
            await storage.list()
        shutil.rmtree(tmp_path / "vault" / folder)
    with pytest.raises(HostFailure, match="is its disk mounted"):
        await made(tmp_path)


def test_what_is_known_of_an_archive_is_read_back() -> None:
    about = About(5, "notes\n", True)
    assert About.read(about.to_text()) == about
    assert About.read(None) == About()
    # Of what cannot be read nobody knows whether it may be removed.
    for text in ("", "[]", "{", '{"size": "x"}', "7"):
        assert About.read(text) == About(protected=True)
