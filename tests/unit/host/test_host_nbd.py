"""The NBD client: against an awkward server, one that lies, and QEMU's own."""

import errno
import json
import os
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bastide.base.errors import HostFailure, NoSpace
from bastide.base.units import KIB, MIB
from bastide.host import qemu_nbd, unix_sockets
from bastide.host.image_sources import Source, opened_source
from bastide.host.nbd import DEPTH, NbdClient
from bastide.host.qemu_img import create, snapshot_create
from bastide.host.run import run
from bastide.model.storage import DiskImage
from framework import nbd_server
from framework.nbd_server import NbdServer, chunk, failure, simple


def patchy(size: int) -> bytearray:
    disk = bytearray(size)
    for at in range(0, size, 5 * 65536):
        disk[at + 100 : at + 70000] = os.urandom(len(disk[at + 100 : at + 70000]))
    return disk


@pytest.mark.parametrize("structured", [True, False])
@pytest.mark.parametrize("late", [0, 3])
def test_everything_is_read(structured: bool, late: int) -> None:
    server = NbdServer(patchy(3 * MIB + 512), structured=structured, piece=30_000, late=late)
    with server.connected() as connected, NbdClient(connected) as client:
        assert client.size == 3 * MIB + 512
        assert client.tells_zeros is structured
        buffers = [bytearray(100_000) for _ in range(31)]
        parts = [(100_000 * number, memoryview(buffer)) for number, buffer in enumerate(buffers)]
        for number, view in enumerate(client.reads(parts, depth=4)):
            assert view.obj is buffers[number]
            assert view == server.disk[100_000 * number : 100_000 * number + 100_000]
        assert client.read(client.size - 700, 700) == server.disk[-700:]


def test_no_more_is_asked_for_than_the_depth() -> None:
    server = NbdServer(bytearray(MIB))
    with server.connected() as connected, NbdClient(connected) as client:
        buffers = [(0, memoryview(bytearray(4096))) for _ in range(20)]
        asking = client.reads(iter(buffers), depth=3)
        next(asking)
        assert len(server.asked) <= 3
        asking.close()


def test_what_is_written() -> None:
    server = NbdServer(patchy(MIB), late=5)
    model = bytearray(server.disk)
    with server.connected() as connected, NbdClient(connected) as client:
        for at in range(0, MIB, 50_000):
            data = bytearray(os.urandom(min(30_000, MIB - at)))
            client.write(at, data)
            model[at : at + len(data)] = data
            data[:] = bytes(len(data))  # the buffer is the caller's again
        client.write_zeroes(1000, 200_000)
        model[1000:201_000] = bytes(200_000)
        client.trim(900_000, 1000)
        client.flush()
        assert server.disk == model
        assert server.asked[-1] == (nbd_server.FLUSH, 0, 0)


def test_a_server_that_can_neither_zero_nor_trim_nor_flush() -> None:
    server = NbdServer(bytearray(b"x" * 3 * MIB), flags=1)
    with server.connected() as connected, NbdClient(connected) as client:
        client.write_zeroes(10, 2 * MIB + 1)
        client.trim(0, MIB)
        client.flush()
        assert server.disk == b"x" * 10 + bytes(2 * MIB + 1) + b"x" * (MIB - 11)
    server = NbdServer(bytearray(4096), flags=3)
    with server.connected() as connected, NbdClient(connected) as client:
        assert client.read_only


def test_where_zeros_are() -> None:
    server = NbdServer(patchy(2 * MIB + 77), piece=65536)
    with server.connected() as connected, NbdClient(connected) as client:
        at = 0
        while at < client.size:
            for length, zero in client.block_status(at, client.size - at):
                assert zero == (not any(server.disk[at : at + length]))
                at += length
        assert at == client.size
        # The server tells of more than it was asked for.
        assert client.block_status(0, 10) == [(10, False)]
    server = NbdServer(bytearray(MIB), tells_zeros=False)
    with server.connected() as connected, NbdClient(connected) as client:
        assert client.block_status(0, MIB) == [(MIB, False)]


def test_asking_for_what_is_not_there_is_a_mistake() -> None:
    with NbdServer(bytearray(4096)).connected() as connected, NbdClient(connected) as client:
        for ask in (
            lambda: client.read(4000, 97),
            lambda: client.write(4096, b"x"),
            lambda: client.write_zeroes(-1, 1),
        ):
            with pytest.raises(ValueError, match="export of 4096 bytes"):
                ask()


def test_an_error_is_the_servers() -> None:
    def full(_: NbdServer, kind: int, handle: int, _offset: int, _length: int) -> bytes | None:
        return failure(handle, errno.ENOSPC, b"the pool is full") if kind == nbd_server.WRITE else None

    with NbdServer(bytearray(MIB), answer=full).connected() as connected, NbdClient(connected) as client:
        client.write(0, b"x")
        with pytest.raises(OSError, match="the pool is full") as raised:
            client.flush()
        assert raised.value.errno == errno.ENOSPC

    def broken(_: NbdServer, kind: int, handle: int, _offset: int, _length: int) -> bytes | None:
        return simple(handle, errno.EIO) if kind == nbd_server.READ else None

    server = NbdServer(bytearray(MIB), answer=broken)
    with server.connected() as connected, pytest.raises(OSError, match="Input/output error"):
        NbdClient(connected).read(0, 10)


LIES: dict[str, Callable[[int, int, int], bytes]] = {
    "an unknown magic": lambda handle, offset, length: b"x" * 100,
    "an unknown handle": lambda handle, offset, length: chunk(0, handle + 1),
    "nothing": lambda handle, offset, length: chunk(0, handle),
    "less": lambda handle, offset, length: chunk(1, handle, struct.pack(">Q", offset) + bytes(length - 1)),
    "more": lambda handle, offset, length: chunk(1, handle, struct.pack(">Q", offset) + bytes(length + 1)),
    "elsewhere": lambda handle, offset, length: chunk(1, handle, struct.pack(">Q", offset - 1) + bytes(length)),
    "far away": lambda handle, offset, length: chunk(2, handle, struct.pack(">QI", 0, 0xFFFFFFFF)),
    "twice": lambda handle, offset, length: 2 * chunk(2, handle, struct.pack(">QI", offset, length), done=False),
    "of an unknown kind": lambda handle, offset, length: chunk(9, handle, bytes(8)),
    "status": lambda handle, offset, length: chunk(5, handle, struct.pack(">III", 7, length, 0)),
    "no end": lambda handle, offset, length: struct.pack(">IHHQI", 0x668E33EF, 1, 1 << 15, handle, 0xFFFFFFFF),
}


@pytest.mark.parametrize("name", LIES)
def test_a_server_that_lies(name: str) -> None:
    def lie(_: NbdServer, _kind: int, handle: int, offset: int, length: int) -> bytes:
        return LIES[name](handle, offset, length)

    server = NbdServer(bytearray(MIB), answer=lie)
    with server.connected() as connected, pytest.raises(ConnectionError, match="cannot be used"):
        NbdClient(connected).read(4096, 4096)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 3))
def test_a_server_that_says_anything(junk: bytes, rightly: int) -> None:
    """Nothing but an OSError, and an end."""
    right = [b"NBDMAGICIHAVEOPT" + struct.pack(">H", 3),
             struct.pack(">QIII", 0x3E889045565A9, 8, 1 << 31, 0),
             struct.pack(">QIII", 0x3E889045565A9, 7, 3, 12) + struct.pack(">HQH", 0, 4096, 1)
             + struct.pack(">QIII", 0x3E889045565A9, 7, 1, 0)]  # fmt: skip
    ours, theirs = socket.socketpair()
    with theirs:
        theirs.sendall(b"".join(right[:rightly]) + junk)
        theirs.shutdown(socket.SHUT_WR)
        with pytest.raises(OSError, match=r"cannot be used|closed"):
            NbdClient(ours).read(0, 4096)
    ours.close()


def test_a_server_that_is_silent() -> None:
    ours, theirs = socket.socketpair()
    with theirs, pytest.raises(TimeoutError, match="does not answer"):
        NbdClient(ours, timeout=0.1)
    ours.close()


# QEMU's

GOLDEN = Path(__file__).resolve().parents[2] / "golden/disks/qemu-nbd.txt"


def test_the_servers_command_lines_are_the_golden_ones() -> None:
    raw = '{"driver": "raw", "file": {"driver": "file", "filename": "/0"}}'
    disk, inside = Source([9], f"json:{raw}", MIB), Source([9], "json:{}", MIB, "first")
    sources = {"a disk": (disk, False), "to be written": (disk, True), "a snapshot inside": (inside, False)}
    lines = [
        f"{name}: {json.dumps(qemu_nbd.server_argv(source, writable=w))}\n" for name, (source, w) in sources.items()
    ]
    assert "".join(lines) == GOLDEN.read_text()


@pytest.mark.system
def test_the_names_of_images_say_every_format(tmp_path: Path) -> None:
    base, image, raw = tmp_path / "base.qcow2", tmp_path / "disk.qcow2", tmp_path / "disk.raw"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", base, "1M"], check=True)
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", "base.qcow2", image], check=True)
    raw.write_bytes(bytes(MIB))
    chain = DiskImage(image, "qcow2", backing=DiskImage(base, "qcow2"))
    files = {n: {"driver": "file", "filename": f"/{n}"} for n in range(2)}
    with opened_source(chain, "qcow2") as source:
        assert json.loads(source.name.removeprefix("json:")) == {
            "driver": "qcow2", "file": files[0], "backing": {"driver": "qcow2", "file": files[1], "backing": None}
        }  # fmt: skip
    with opened_source(raw, "raw", size=4096) as source:
        assert json.loads(source.name.removeprefix("json:")) == {"driver": "raw", "file": files[0], "size": 4096}


def client_of(path: Path) -> NbdClient:
    return NbdClient(unix_sockets.connect(path), timeout=60)


@pytest.mark.anyio
@pytest.mark.system
@pytest.mark.parametrize("form", ["raw", "qcow2"])
async def test_an_image_is_written_and_read(tmp_path: Path, form: str) -> None:
    image = tmp_path / f"disk.{form}"
    await create(image, form, 40 * MIB)
    data = os.urandom(5 * MIB)

    def write(path: Path) -> None:
        with client_of(path) as client:
            assert client.size == 40 * MIB
            assert client.tells_zeros
            for at in range(0, len(data), 100_000):
                client.write(3 * MIB + at, data[at : at + 100_000])
            client.write_zeroes(4 * MIB, MIB)
            client.trim(5 * MIB, MIB)
            client.flush()

    def read(path: Path) -> None:
        with client_of(path) as client:
            assert client.read_only
            assert client.read(3 * MIB, MIB) == data[:MIB]
            assert client.read(4 * MIB, 2 * MIB) == bytes(2 * MIB)
            assert client.read(6 * MIB, 2 * MIB) == data[3 * MIB :]
            told, at = [], 0
            while at < client.size:
                told += client.block_status(at, client.size - at)
                at = sum(length for length, _ in told)
            assert sum(length for length, zero in told if not zero) <= 3 * MIB + 64 * KIB

    async with qemu_nbd.serving(DiskImage(image, form), folder=tmp_path, writable=True) as path:  # type: ignore[arg-type]
        await anyio.to_thread.run_sync(write, path)
    async with qemu_nbd.serving(DiskImage(image, form), folder=tmp_path) as path:  # type: ignore[arg-type]
        await anyio.to_thread.run_sync(read, path)
        with client_of(path) as client:
            client.write(0, b"x" * 512)
            with pytest.raises(OSError, match="read-only"):
                client.flush()
    assert [file.name for file in tmp_path.iterdir()] == [image.name]


@pytest.mark.anyio
@pytest.mark.system
async def test_many_requests_and_clients_at_once(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(os.urandom(20 * MIB))
    wrong: list[int] = []

    def read(path: Path, number: int) -> None:
        with client_of(path) as client:
            parts = [(at, memoryview(bytearray(MIB // 2))) for at in range(0, 20 * MIB, MIB // 2)]
            for (at, _), view in zip(parts, client.reads(parts, DEPTH), strict=True):
                if view != disk.read_bytes()[at : at + MIB // 2]:
                    wrong.append(number)

    async with qemu_nbd.serving(disk, folder=tmp_path) as path:
        threads = [threading.Thread(target=read, args=(path, number)) for number in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            await anyio.to_thread.run_sync(thread.join)
    assert wrong == []


@pytest.mark.anyio
@pytest.mark.system
async def test_a_snapshot_inside_and_what_an_image_builds_on(tmp_path: Path) -> None:
    base, image = tmp_path / "base.qcow2", tmp_path / "disk.qcow2"
    await create(base, "qcow2", MIB)
    async with qemu_nbd.serving(DiskImage(base, "qcow2"), folder=tmp_path, writable=True) as path:
        with client_of(path) as client:
            client.write(0, b"below" * 1000)
            client.flush()
    await run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", "base.qcow2", str(image)])
    chain = DiskImage(image, "qcow2", backing=DiskImage(base, "qcow2"))
    await snapshot_create(image, "first")
    async with qemu_nbd.serving(chain, folder=tmp_path, writable=True) as path:
        with client_of(path) as client:
            client.write(0, b"above")
            client.flush()
    async with qemu_nbd.serving(chain, folder=tmp_path) as path:
        assert client_of(path).read(0, 10) == b"abovebelow"
    inside = DiskImage(image, "qcow2", backing=DiskImage(base, "qcow2"), inside="first")
    async with qemu_nbd.serving(inside, folder=tmp_path) as path:
        assert client_of(path).read(0, 10) == b"belowbelow"


@pytest.mark.anyio
@pytest.mark.system
async def test_the_beginning_of_a_raw_file(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(b"x" * MIB)
    async with qemu_nbd.serving(disk, folder=tmp_path, size=540_672) as path, anyio.create_task_group():
        with client_of(path) as client:
            assert client.size == 540_672
    with pytest.raises(HostFailure, match="cannot be shown"):
        async with qemu_nbd.serving(disk, folder=tmp_path, size=2 * MIB):
            pass


@pytest.mark.anyio
@pytest.mark.system
async def test_what_is_no_image(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(b"x" * MIB)
    with pytest.raises(HostFailure, match="not a qcow2"):
        async with qemu_nbd.serving(disk, "qcow2", folder=tmp_path):
            pass
    assert [file.name for file in tmp_path.iterdir()] == ["disk"]


@pytest.mark.anyio
@pytest.mark.system
async def test_what_another_writes_to(tmp_path: Path) -> None:
    image = tmp_path / "disk.qcow2"
    await create(image, "qcow2", MIB)
    async with qemu_nbd.serving(image, "qcow2", folder=tmp_path, writable=True):
        with pytest.raises(HostFailure, match="another process"):
            async with qemu_nbd.serving(image, "qcow2", folder=tmp_path, writable=True):
                pass
    assert [file.name for file in tmp_path.iterdir()] == ["disk.qcow2"]


@pytest.mark.anyio
@pytest.mark.system
async def test_a_full_storage_ends_it_while_there_is_room_for_others(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    await run(["mount", "-t", "tmpfs", "-o", "size=64m", "none", str(small)])
    try:
        (small / "other").write_bytes(bytes(52 * MIB))
        (small / "disk").touch()
        os.truncate(small / "disk", 64 * MIB)
        with pytest.raises(NoSpace):
            async with qemu_nbd.serving(small / "disk", folder=tmp_path, writable=True) as path:
                await anyio.to_thread.run_sync(_fill, path)
    finally:
        await run(["umount", str(small)])
    assert list(tmp_path.glob("nbd-*")) == []


def _fill(path: Path) -> None:
    data = os.urandom(MIB)
    try:
        with client_of(path) as client:
            for at in range(0, 64 * MIB, MIB):
                client.write(at, data)
                client.flush()
                time.sleep(0.06)  # it looks ten times a second
    except OSError as error:
        raise HostFailure(str(error)) from error
