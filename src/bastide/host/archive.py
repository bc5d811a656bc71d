"""Compressed tar archives: what a file is, and streaming one into an unpacking command.

The decompressor and the unpacker are two processes with a kernel pipe between them; the daemon only watches. Both get
open descriptors, never a path, so that no name can be taken for an option and no link be put in its place.
"""

import asyncio
import contextlib
import fcntl
import os
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bastide.base.errors import HostFailure, NoSpace
from bastide.base.units import GIB, MIB
from bastide.host.filesystems import translated
from bastide.host.run import kill_group, last_words, spawn

_MAGIC: tuple[tuple[bytes, str, tuple[str, ...]], ...] = (
    (b"\x28\xb5\x2f\xfd", "zst", ("zstd", "-q", "-d", "-c")),
    (b"\xfd7zXZ\x00", "xz", ("xz", "-q", "-d", "-c", "-T0")),
    (b"\x1f\x8b", "gz", ("gzip", "-q", "-d", "-c")),
    (b"BZh", "bz2", ("bzip2", "-q", "-d", "-c")),
    (b"\x89LZO\x00\r\n\x1a", "lzo", ("lzop", "-q", "-d", "-c")),
)
_PIPE_SIZE = MIB
_WATCH_INTERVAL = 0.1


@dataclass(frozen=True, slots=True)
class Limits:
    """What an archive may hold unpacked: at most `size` bytes, and at most `ratio` times its own size beyond 1 GiB."""

    size: int = 64 * GIB
    ratio: int = 250

    def allowed(self, compressed: int) -> int:
        """Bytes that an archive of `compressed` bytes may unpack to."""
        return min(self.size, max(GIB, compressed * self.ratio))


def compression(path: Path) -> str:
    """`zst`, `xz`, `gz` or `bz2` by the file's first bytes. Raises HostFailure for anything else."""
    with _opened(path) as descriptor:
        return identify(descriptor)[0]


async def check_tar(path: Path) -> None:
    """Make sure that a file is a compressed tar archive by unpacking its first block. Raises HostFailure."""
    with _opened(path) as descriptor:
        process = await spawn(identify(descriptor)[1], stdin=descriptor, stdout=PIPE)
    try:
        assert process.stdout is not None  # noqa: S101 - asked for above
        async with asyncio.timeout(60):
            block = await process.stdout.readexactly(512)
    except (asyncio.IncompleteReadError, TimeoutError):
        raise HostFailure(f"'{path.name}' is not a readable tar archive") from None
    finally:
        await kill_group(process)
    if block[257:262] != b"ustar":
        raise HostFailure(f"'{path.name}' is not a tar archive")


async def stream_archive(
    path: Path,
    argv: Sequence[str],
    limits: Limits = Limits(),
    log: Callable[[str], None] | None = None,
) -> None:
    """Decompress a tar archive into the standard input of `argv`; `log` gets the lines that it writes on stderr.

    Raises NoSpace, or HostFailure that says what is wrong with the archive. Cancelling kills both processes.
    """
    with _opened(path) as descriptor, contextlib.ExitStack() as ends:
        decompressor = identify(descriptor)[1]
        allowed = limits.allowed(os.fstat(descriptor).st_size)
        reading, writing = os.pipe2(os.O_CLOEXEC)
        ends.callback(os.close, reading)
        ends.callback(os.close, writing)
        with contextlib.suppress(OSError):  # an unprivileged limit on pipes only makes it slower
            fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)
        source = await spawn(decompressor, stdin=descriptor, stdout=writing, stderr=PIPE)
        try:
            sink = await spawn(argv, stdin=reading, stderr=PIPE)
        except BaseException:
            await kill_group(source)
            raise
    try:
        await _pump(source, sink, path.name, allowed, log)
    finally:
        for process in (source, sink):
            if process.returncode is None:
                await kill_group(process)


async def _pump(source: Process, sink: Process, name: str, allowed: int, log: Callable[[str], None] | None) -> None:
    async with asyncio.TaskGroup() as group:
        errors = group.create_task(last_words(source))
        messages = group.create_task(last_words(sink))
        exceeded = asyncio.Event()
        watching = group.create_task(_watch(source, sink, allowed, exceeded))
        await source.wait()
        code = await sink.wait()
        watching.cancel()
    if exceeded.is_set():
        raise HostFailure(f"archive '{name}' unpacks to more than the {allowed // MIB} MiB it may")
    text = messages.result()
    if log is not None:
        for line in text.splitlines()[-20:]:
            log(line)
    # A decompressor that lost its reader says at most that; the cause is then what the reader says.
    reason = _last_line(errors.result())
    if source.returncode != 0 and (code == 0 or (reason and "Broken pipe" not in reason)):
        raise HostFailure(f"archive '{name}' cannot be read: {reason or f'exit code {source.returncode}'}")
    if code != 0:
        raise _explain(name, code, text)


async def _watch(source: Process, sink: Process, allowed: int, exceeded: asyncio.Event) -> None:
    """Kill both when more than `allowed` bytes come out of the archive."""
    while _written(source.pid) <= allowed:  # noqa: ASYNC110 - a process of the kernel has no event for this
        await asyncio.sleep(_WATCH_INTERVAL)
    exceeded.set()
    await kill_group(source)
    await kill_group(sink)


def _written(pid: int) -> int:
    """Bytes that a process has written (proc(5), `wchar` in /proc/PID/io)."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path(f"/proc/{pid}/io").read_text().splitlines():
            if line.startswith("wchar:"):
                return int(line.partition(":")[2])
    return 0


def _explain(name: str, code: int, text: str) -> HostFailure:
    # tar(1) tells of a write that the disk took half of, and not why.
    if any(words in text for words in ("No space left on device", "Disk quota exceeded", ": Wrote only ")):
        return NoSpace(f"the volume is full: archive '{name}' does not fit")
    if "Cannot mknod" in text:
        return HostFailure(f"archive '{name}' holds device nodes, which an unprivileged container cannot have")
    if "Unexpected EOF" in text:
        return HostFailure(f"archive '{name}' is truncated")
    lines = [line for line in text.splitlines() if "Exiting with failure status" not in line]
    return HostFailure(f"archive '{name}' could not be unpacked: {_last_line(chr(10).join(lines)) or f'code {code}'}")


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1].strip() if lines else ""


def identify(descriptor: int) -> tuple[str, Sequence[str]]:
    """What a file is compressed with, and the command that unpacks its standard input. Raises HostFailure."""
    head = os.pread(descriptor, 8, 0)
    for magic, kind, decompressor in _MAGIC:
        if head.startswith(magic):
            return kind, decompressor
    raise HostFailure("the archive cannot be read: it is not compressed with zstd, xz, gzip or bzip2")


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    with translated(f"open '{path.name}'"):
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
