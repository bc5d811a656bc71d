"""The processes of a pipeline that write VMs' disks into a VMA archive and read them out of one.

Both work in `vma_helper.py`, behind walls of their own: they get connected sockets and may do nothing else.
"""

import asyncio
import contextlib
import json
import os
import secrets
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bastide.backup.vma import Device, Header, device_name, header_length, parse_header, render_header
from bastide.base.errors import DeadlineExceeded, HostFailure
from bastide.host import unix_sockets
from bastide.host.pipeline import Stage
from bastide.host.run import kill_group, spawn
from bastide.model.backup import DiskExport

_SOURCE = str(Path(__file__).parents[2])
_HELPER = "import sys; sys.path.insert(0, sys.argv.pop(1)); from bastide.backup.vma_helper import main; main()"
_START = 60
_DEADLINE = 60


@dataclass(frozen=True, slots=True)
class DiskTarget:
    """Where a disk out of an archive goes, with room for at least its bytes.

    `to` is a UNIX socket that speaks NBD with one writable export without a name, or an open descriptor of a raw file
    or a block device, which is the faster way. `zeroed` says that all of it reads as zeros, so that those need not be
    written.
    """

    to: Path | int
    zeroed: bool = False


@contextlib.contextmanager
def pack_stage(disks: Sequence[DiskExport], files: Mapping[str, bytes]) -> Iterator[Stage]:
    """While entered, the process that reads the disks and writes them as a VMA archive to its standard output.

    `files` are kept in its header (`qemu-server.conf`). Raises HostFailure when one of them is larger than 65,535
    bytes, or a socket does not answer.
    """
    devices = {number: Device(device_name(disk.key), disk.size) for number, disk in enumerate(disks, 1)}
    header = render_header(Header(secrets.token_bytes(16), int(time.time()), files, devices))
    sockets = {str(number): disk.socket for number, disk in enumerate(disks, 1)}
    told = {"header": header.hex(), "exports": {str(number): disk.export for number, disk in enumerate(disks, 1)}}
    with _helper("pack", "read", sockets, told, {}) as stage:
        yield stage


@contextlib.contextmanager
def unpack_stage(targets: Mapping[str, DiskTarget]) -> Iterator[Stage]:
    """While entered, the process that reads a VMA archive from its standard input and writes its disks to `targets`.

    They go by their options (`scsi0`); the others are checked alone, without a target all of them. The process ends
    well when the archive was whole and every target has what was written on stable storage.
    """
    sockets = {key: target.to for key, target in targets.items() if isinstance(target.to, Path)}
    files = {key: target.to for key, target in targets.items() if isinstance(target.to, int)}
    zeroed = {key: target.zeroed for key, target in targets.items()}
    with _helper("unpack", "restored", sockets, {"zeroed": zeroed, "exports": {}}, files) as stage:
        yield stage


async def read_header(stage: Stage, stdin: int = DEVNULL) -> Header:
    """What the archive begins with that a process writes; it is ended then.

    Raises HostFailure, also in its words, DeadlineExceeded when nothing comes of it.
    """
    process = await spawn(stage.argv, stdin=stdin, stdout=PIPE, stderr=PIPE, pass_fds=stage.pass_fds)
    assert process.stdout is not None and process.stderr is not None  # noqa: S101, PT018 - asked for above
    try:
        async with asyncio.timeout(_DEADLINE):
            start = await process.stdout.read(_START)
            while len(start) < _START and (part := await process.stdout.read(_START - len(start))):
                start += part
            if not start and (said := (await process.stderr.read(4096)).decode(errors="replace").strip()):
                raise HostFailure(f"the archive could not be read: {said.splitlines()[-1][:300]}")
            rest, left = b"", header_length(start) - len(start)
            while left and (part := await process.stdout.read(left)):
                rest, left = rest + part, left - len(part)
        return parse_header(start + rest)
    except TimeoutError:
        raise DeadlineExceeded(f"the archive could not be read: nothing came of it for {_DEADLINE} seconds") from None
    finally:
        await kill_group(process)


@contextlib.contextmanager
def _helper(
    work: str, doing: str, sockets: Mapping[str, Path], told: Mapping[str, object], files: Mapping[str, int]
) -> Iterator[Stage]:
    with contextlib.ExitStack() as stack:
        given = {}
        for key, path in sockets.items():
            try:
                connected = stack.enter_context(unix_sockets.connect(path))
            except OSError as error:
                raise HostFailure(f"the disk cannot be reached at {path}: {error.strerror or error}") from error
            connected.setblocking(True)
            given[key] = connected.fileno()
        plan = os.memfd_create("vma-plan")
        stack.callback(os.close, plan)
        written = json.dumps({**told, "sockets": given, "files": files}).encode()
        if os.write(plan, written) != len(written):
            raise HostFailure("there is no memory for an archive's header")
        argv = [sys.executable, "-I", "-S", "-c", _HELPER, _SOURCE, str(os.getpid()), work, str(plan)]
        yield Stage(argv, doing, pass_fds=(plan, *given.values(), *files.values()))
