"""Disks into an archive and out of one by the processes of a pipeline, and what happens when either side fails."""

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path

import anyio
import pytest

from bastide.backup.vma_stages import DiskTarget, pack_stage, read_header, unpack_stage
from bastide.base.errors import DeadlineExceeded, HostFailure, NoSpace
from bastide.base.units import MIB
from bastide.host import processes, unix_sockets
from bastide.host.pipeline import Flow, Stage, run_pipeline
from bastide.host.qemu_nbd import serving
from bastide.host.run import kill_group, run, spawn
from bastide.model.backup import DiskExport
from framework import vma_by_spec
from framework.nbd_server import NbdServer, failure
from framework.vma_by_spec import Archive

pytestmark = [pytest.mark.anyio, pytest.mark.system]

CONFIG = {"qemu-server.conf": b"name: web\n"}
CAT = Stage(["/bin/cat"], "copied")
COMPRESS, EXPAND = Stage(["/usr/bin/zstd", "-q", "-c"], "compressed"), Stage(["/usr/bin/zstd", "-q", "-dc"], "expanded")
EFI = 540_672


def disk(size: int) -> bytes:
    data = bytearray(size)
    for at in range(MIB, size, 3 * MIB):
        data[at + 5000 : at + MIB] = os.urandom(MIB - 5000)
    data[size - 10 :] = b"the end.\n\0"
    return bytes(data)


DISKS = {"scsi0": disk(20 * MIB), "efidisk0": disk(EFI), "tpmstate0": disk(4 * MIB)}


async def pack(folder: Path, disks: Mapping[str, bytes], target: Path, second: Stage = CAT) -> Flow:
    """Serve the disks and write an archive of them."""
    async with AsyncExitStack() as stack:
        exports = []
        for key, data in disks.items():
            file = folder / f"source-{key}"
            with open(file, "wb") as writing:  # noqa: ASYNC230 - a test's
                for at in range(0, len(data), 65536):
                    if any(part := data[at : at + 65536]):
                        os.pwrite(writing.fileno(), part, at)
                os.truncate(writing.fileno(), len(data))
            path = await stack.enter_async_context(serving(file, folder=folder))
            exports.append(DiskExport(key, path, len(data)))
        with pack_stage(exports, CONFIG) as stage, open(target, "wb") as output:  # noqa: ASYNC230
            return await run_pipeline([stage, second], stdout=output.fileno())


async def unpack(archive: Path, targets: Mapping[str, DiskTarget], first: Stage = CAT) -> Flow:
    """Write the disks of an archive."""
    with unpack_stage(targets) as stage, open(archive, "rb") as source:  # noqa: ASYNC230
        return await run_pipeline([first, stage], stdin=source.fileno())


@contextlib.asynccontextmanager
async def target(file: Path, size: int, fill: bytes | None = None) -> AsyncIterator[DiskTarget]:
    """A disk to restore to, of zeros or full of something."""
    file.write_bytes(b"" if fill is None else fill * (size // len(fill)))
    os.truncate(file, size)
    async with serving(file, folder=file.parent, writable=True) as path:
        yield DiskTarget(path, zeroed=fill is None)


async def test_there_and_back(tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    flow = await pack(tmp_path, DISKS, archive, COMPRESS)
    assert flow.total < sum(map(len, DISKS.values())) // 2
    with open(archive, "rb") as file:  # noqa: ASYNC230
        header = await read_header(EXPAND, file.fileno())
    assert header.files == CONFIG
    assert header.disks == {key: len(data) for key, data in DISKS.items()}
    assert abs(header.created - time.time()) < 60
    async with AsyncExitStack() as stack:
        fresh = await stack.enter_async_context(target(tmp_path / "fresh", 20 * MIB))
        used = await stack.enter_async_context(target(tmp_path / "used", MIB, b"junk"))
        await unpack(archive, {"scsi0": fresh, "efidisk0": used}, EXPAND)
    assert (tmp_path / "fresh").read_bytes() == DISKS["scsi0"]
    assert (tmp_path / "used").read_bytes() == DISKS["efidisk0"] + bytes(MIB - EFI)
    # Holes stay holes.
    assert (tmp_path / "fresh").stat().st_blocks * 512 < 10 * MIB


async def test_into_a_file_without_a_server(tmp_path: Path) -> None:
    archive, used, fresh = tmp_path / "archive", tmp_path / "used", tmp_path / "fresh"
    await pack(tmp_path, DISKS, archive, COMPRESS)
    used.write_bytes(b"junk" * (MIB // 4))
    fresh.touch()
    os.truncate(fresh, 20 * MIB)
    with open(used, "r+b") as first, open(fresh, "r+b") as second:  # noqa: ASYNC230
        targets = {"efidisk0": DiskTarget(first.fileno()), "scsi0": DiskTarget(second.fileno(), zeroed=True)}
        await unpack(archive, targets, EXPAND)
    assert used.read_bytes() == DISKS["efidisk0"] + bytes(MIB - EFI)
    assert fresh.read_bytes() == DISKS["scsi0"]
    assert fresh.stat().st_blocks * 512 < 10 * MIB


async def test_a_configuration_alone(tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    await pack(tmp_path, {}, archive)
    assert vma_by_spec.read(archive.read_bytes()) == Archive(CONFIG)
    await unpack(archive, {})


async def test_others_read_it(tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    await pack(tmp_path, DISKS, archive)
    names = {"scsi0": "drive-scsi0", "efidisk0": "drive-efidisk0", "tpmstate0": "drive-tpmstate0-backup"}
    assert vma_by_spec.read(archive.read_bytes()) == Archive(
        CONFIG, {number: (names[key], data) for number, (key, data) in enumerate(DISKS.items(), 1)}
    )


async def test_what_others_write_in_any_order(tmp_path: Path) -> None:
    there = Archive(CONFIG, {1: ("drive-scsi0", DISKS["scsi0"]), 2: ("drive-virtio1", DISKS["tpmstate0"])})
    order = [(1, number) for number in range(320)] + [(2, number) for number in range(64)]
    archive = tmp_path / "archive"
    archive.write_bytes(vma_by_spec.write(there, [order[at * 77 % 384] for at in range(384)]))
    await unpack(archive, {})
    async with target(tmp_path / "restored", 20 * MIB, b"junk") as restored:
        await unpack(archive, {"scsi0": restored})
    assert (tmp_path / "restored").read_bytes() == DISKS["scsi0"]


async def test_an_archive_that_is_damaged(tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    await pack(tmp_path, {"scsi0": DISKS["scsi0"]}, archive)
    good = archive.read_bytes()
    for damaged, why in ((good[:-5000], "ends in the middle"), (good + b"more", "ends in the middle"),
                         (good.replace(b"VMAE", b"VMAX", 2), "something else"), (b"", "no VMA")):  # fmt: skip
        archive.write_bytes(damaged)
        with pytest.raises(HostFailure, match=f"could not be restored: .*{why}"):
            await unpack(archive, {})
    archive.write_bytes(good)
    async with target(tmp_path / "small", MIB) as small:
        with pytest.raises(HostFailure, match="'scsi0' of 20971520 bytes cannot be written to 1048576"):
            await unpack(archive, {"scsi0": small})
        with pytest.raises(HostFailure, match="no disk 'scsi1'"):
            await unpack(archive, {"scsi1": small})


async def test_the_header_of_what_is_none(tmp_path: Path) -> None:
    junk = tmp_path / "junk"
    junk.write_bytes(b"junk" * 100)
    with open(junk, "rb") as file:  # noqa: ASYNC230
        with pytest.raises(HostFailure, match="no VMA archive"):
            await read_header(CAT, file.fileno())
        file.seek(0)
        with pytest.raises(HostFailure, match=r"could not be read: .*unsupported format"):
            await read_header(EXPAND, file.fileno())
    with pytest.raises(HostFailure, match="no VMA archive"):
        await read_header(Stage(["/bin/true"], "read"))


async def test_the_header_alone_is_read_of_a_stream_without_an_end(tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    await pack(tmp_path, {"scsi0": DISKS["scsi0"]}, archive)
    forever = Stage(["/bin/cat", str(archive), "/dev/zero"], "read")
    with anyio.fail_after(10):
        assert (await read_header(forever)).disks == {"scsi0": 20 * MIB}


async def test_what_an_archive_cannot_hold(tmp_path: Path) -> None:
    with pytest.raises(HostFailure, match="65535"), pack_stage([DiskExport("scsi0", tmp_path, 1)], {"x": bytes(70000)}):
        pass
    with (
        pytest.raises(HostFailure, match="cannot be reached"),
        pack_stage([DiskExport("scsi0", tmp_path / "x", 1)], {}),
    ):
        pass


def served(server: NbdServer, path: Path) -> threading.Thread:
    """Serve one client at a path."""
    listener = unix_sockets.listen(path)

    def serve() -> None:
        with listener:
            server._serve(listener.accept()[0])

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    return thread


async def refused(path: Path, size: int, why: str) -> None:
    """Packing a disk fails for that reason."""
    with pack_stage([DiskExport("scsi0", path, size)], {}) as stage, pytest.raises(HostFailure, match=why):
        await run_pipeline([stage, CAT])


async def test_a_disk_that_cannot_be_read(tmp_path: Path) -> None:
    def broken(_: NbdServer, _kind: int, handle: int, offset: int, _length: int) -> bytes | None:
        return failure(handle, 5, b"the guest has ended") if offset >= 3 * MIB else None

    served(NbdServer(bytearray(b"x" * 9 * MIB), answer=broken), tmp_path / "socket")
    await refused(
        tmp_path / "socket", 9 * MIB, r"'drive-scsi0' cannot be read: Input/output error \(the guest has ended\)"
    )
    served(NbdServer(bytearray(MIB)), tmp_path / "socket")
    await refused(tmp_path / "socket", 2 * MIB, "2097152 bytes is served with 1048576")


async def test_a_server_that_goes(tmp_path: Path) -> None:
    def gone(_: NbdServer, _kind: int, _handle: int, offset: int, _length: int) -> bytes | None:
        if offset >= 3 * MIB:
            raise OSError
        return None

    served(NbdServer(bytearray(b"x" * 9 * MIB), answer=gone), tmp_path / "socket")
    await refused(tmp_path / "socket", 9 * MIB, "closed the connection")


async def test_a_storage_that_is_full(tmp_path: Path) -> None:
    archive, small = tmp_path / "archive", tmp_path / "small"
    await pack(tmp_path, {"scsi0": DISKS["scsi0"]}, archive)
    small.mkdir()
    await run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(small)])
    try:
        with pytest.raises(NoSpace):
            async with target(small / "restored", 20 * MIB) as full:
                await unpack(archive, {"scsi0": full})
    finally:
        await run(["umount", str(small)])


async def test_the_process_is_shut_in(tmp_path: Path) -> None:
    """It waits for a server that is silent, and can do nothing meanwhile."""
    listening, export = unix_sockets.listen(tmp_path / "socket"), DiskExport("scsi0", tmp_path / "socket", MIB)
    with listening, pack_stage([export], CONFIG) as stage:
        assert "web" not in " ".join(stage.argv)
        process = await spawn(stage.argv, pass_fds=stage.pass_fds)
        try:
            proc = Path(f"/proc/{process.pid}")
            with anyio.fail_after(20):
                while "NoNewPrivs:\t1" not in (proc / "status").read_text():
                    await anyio.sleep(0.05)
            status = dict(line.split(":\t", 1) for line in (proc / "status").read_text().splitlines())
            assert status["Uid"].split() == ["65533"] * 4
            assert status["Gid"].split() == ["65533"] * 4
            assert status["Groups"].strip() == ""
            assert int(status["CapPrm"], 16) == int(status["CapEff"], 16) == 0
            assert os.listdir(proc / "root") == []
            assert os.readlink(proc / "ns/net") != os.readlink("/proc/self/ns/net")
        finally:
            await kill_group(process)


def test_it_ends_with_its_daemon(tmp_path: Path) -> None:
    code = """if True:
        import subprocess, sys, time
        from pathlib import Path
        from bastide.backup.vma_stages import pack_stage
        from bastide.model.backup import DiskExport
        with pack_stage([DiskExport("scsi0", Path(sys.argv[1]), 4096)], {}) as stage:
            print(subprocess.Popen(stage.argv, pass_fds=stage.pass_fds).pid, flush=True)
            time.sleep(60)
    """
    with unix_sockets.listen(tmp_path / "socket") as listener:
        daemon = subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path / "socket")], stdout=subprocess.PIPE, text=True
        )
        assert daemon.stdout is not None
        helper = int(daemon.stdout.readline())
        with listener.accept()[0]:
            handle = processes.Handle(helper)
            status = Path(f"/proc/{helper}/status")
            deadline = time.monotonic() + 20
            while "NoNewPrivs:\t1" not in status.read_text() and time.monotonic() < deadline:
                time.sleep(0.05)
            assert handle.alive()
            daemon.kill()
            daemon.communicate()
            while handle.alive() and time.monotonic() < deadline:
                time.sleep(0.02)
            assert not handle.alive()
            handle.close()


async def test_a_stream_that_never_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bastide.backup.vma_stages._DEADLINE", 0.2)
    with pytest.raises(DeadlineExceeded, match="nothing came of it"):
        await read_header(Stage(["/bin/sleep", "100"], "read"))
