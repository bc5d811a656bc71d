import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from bastide.base.errors import BastideError, HostFailure, InvalidParameter, NotFound, WrongState
from bastide.model.guest import Guest, GuestState
from bastide.operations import files
from bastide.operations.files import Writing, read_file, write_file

pytestmark = [pytest.mark.anyio, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

GUEST = Guest(100, "lxc", "n", {"rootfs": "local:100/vm-100-disk-0.subvol", "mp0": "local:100/x.subvol,mp=/srv/data"})


@pytest.fixture
def rooms(tmp_path: Path):
    """Rooms of a stopped guest whose root is `tmp_path/root`."""
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    os.chown(root, 100000, 100000)
    held: list[str] = []

    @asynccontextmanager
    async def hold(vmid, owner, action, deadline=10.0):
        held.append("taken")
        try:
            yield
        finally:
            held.append("given back")

    class Storage:
        async def activate(self, name, first_id):
            return root

        async def deactivate(self, name):
            held.append(f"deactivated {name}")

    async def containers(name):
        return Storage()

    return SimpleNamespace(
        root=root,
        held=held,
        containers=SimpleNamespace(init_pid=lambda vmid: None, state=lambda vmid: GuestState.STOPPED),
        locks=SimpleNamespace(hold=hold),
        storages=SimpleNamespace(containers=containers),
    )


async def chunks(*parts: bytes, error: BastideError | None = None) -> AsyncIterator[bytes]:
    for part in parts:
        yield part
    if error is not None:
        raise error


async def content(rooms, path: str) -> bytes:
    async with read_file(rooms, GUEST, path) as (facts, parts):
        data = b"".join([part async for part in parts])
    assert facts.size == len(data)
    return data


async def test_what_was_written_is_read_and_the_guest_is_let_go(rooms) -> None:
    data = os.urandom(3_000_000)
    facts = await write_file(
        rooms, GUEST, "/etc/f", chunks(data[:1_000_001], data[1_000_001:]), Writing(size=len(data))
    )
    assert (facts.size, facts.mode, facts.uid, facts.gid) == (3_000_000, "0644", 0, 0)
    assert await content(rooms, "/etc/f") == data
    assert (rooms.root / "etc/f").stat().st_uid == 100000
    volumes = ["deactivated 100/vm-100-disk-0.subvol", "deactivated 100/x.subvol"]
    assert rooms.held == ["taken", *volumes, "given back"] * 2
    await write_file(rooms, GUEST, "/etc/f", chunks(), Writing(mode=0o4750, uid=33, gid=34))
    found = (rooms.root / "etc/f").stat()
    assert (found.st_size, found.st_mode & 0o7777, found.st_uid, found.st_gid) == (0, 0o4750, 100033, 100034)
    kept = await write_file(rooms, GUEST, "/etc/f", chunks(b"x"), Writing())
    assert (kept.mode, kept.uid, kept.gid) == ("4750", 33, 34)


async def test_a_link_leads_nowhere_outside(rooms, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    canary.write_text("secret")
    (tmp_path / "etc").mkdir()
    before = canary.stat()
    for name, target in {"abs": canary, "up": "../../../canary", "dir": tmp_path, "magic": "/proc/self/root"}.items():
        (rooms.root / "etc" / name).symlink_to(target)
    for path in ("/etc/abs", "/etc/up", "/etc/dir/canary", "/etc/magic/etc/passwd", "/../canary", "/etc/../../canary"):
        with pytest.raises((NotFound, HostFailure)):
            await content(rooms, path)
    with pytest.raises(BastideError):
        await write_file(rooms, GUEST, "/etc/dir/canary", chunks(b"x"), Writing())
    with pytest.raises(BastideError):
        await write_file(rooms, GUEST, "/etc/abs", chunks(b"x"), Writing())  # the folder is not in the root
    await write_file(rooms, GUEST, "/etc/up", chunks(b"mine"), Writing())
    assert (rooms.root / "canary").read_text() == "mine"
    assert canary.read_text() == "secret"
    after = canary.stat()
    assert (after.st_ino, after.st_size, after.st_mtime_ns) == (before.st_ino, before.st_size, before.st_mtime_ns)


async def test_devices_fifos_and_folders_are_refused(rooms) -> None:
    os.mkfifo(rooms.root / "fifo")
    os.mknod(rooms.root / "null", 0o666 | 0o020000, os.makedev(1, 3))
    for path in ("/fifo", "/null", "/etc"):
        with pytest.raises(HostFailure, match=r"plain file|folder"):
            await asyncio.wait_for(content(rooms, path), 5)
        with pytest.raises(HostFailure, match=r"plain file|folder"):
            await asyncio.wait_for(write_file(rooms, GUEST, path, chunks(b"x"), Writing()), 5)


async def test_a_broken_off_transfer_leaves_nothing(rooms) -> None:
    (rooms.root / "etc/f").write_text("before")
    with pytest.raises(WrongState, match="went"):
        await write_file(rooms, GUEST, "/etc/f", chunks(b"x" * 100_000, error=WrongState("the client went")), Writing())
    assert (rooms.root / "etc/f").read_text() == "before"
    assert os.listdir(rooms.root / "etc") == ["f"]
    assert rooms.held[-1] == "given back"


async def test_a_transfer_that_stalls_is_broken_off(rooms, monkeypatch) -> None:
    monkeypatch.setattr(files, "STALL", 0.3)

    async def stalls():
        yield b"x"
        await asyncio.sleep(60)

    with pytest.raises(BastideError, match="nothing came"):
        await write_file(rooms, GUEST, "/etc/f", stalls(), Writing())
    assert os.listdir(rooms.root / "etc") == []


async def test_unusable_places_are_named(rooms) -> None:
    with pytest.raises(InvalidParameter):
        await content(rooms, "etc/passwd")
    with pytest.raises(NotFound, match="does not exist"):
        await content(rooms, "/etc/nothing")
    with pytest.raises(NotFound, match="does not exist"):
        await write_file(rooms, GUEST, "/nowhere/f", chunks(b"x"), Writing())
    with pytest.raises(WrongState, match="volume of its own"):
        await write_file(rooms, GUEST, "/srv/data/f", chunks(b"x"), Writing())
    with pytest.raises(BastideError, match="no space"):
        await write_file(rooms, GUEST, "/etc/f", chunks(b"x"), Writing(size=1 << 60))
