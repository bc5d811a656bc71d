"""The processes that `vma_stages` describes: from disks to an archive on standard output, from standard input to disks.

What is imported here is there before the process shuts itself in, and nothing of it needs a package.
"""

import json
import os
import queue
import socket
import sys
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack

from bastide.backup.vma import CLUSTER, Buffer, Header, Readable, device_name, parse_header
from bastide.backup.vma_stream import Reader, Writer
from bastide.base.errors import HostFailure
from bastide.base.units import GIB, MIB
from bastide.host.nbd import NbdClient
from bastide.host.raw_disk import RawDisk
from bastide.host.secluded import seclude

_PART = MIB // 2
_AHEAD = 4
_BUFFERS = 24
"""More than are on their way and in an extent together, so that neither thread waits for the other for ever."""
_MEMORY = 2 * GIB
_MOST_PARTS = 1024  # IOV_MAX

_Part = tuple[int, int, bytearray | None, int]
"""A disk's number, the first cluster, the bytes or None for zeros, and how many bytes."""


def pack(header: bytes, clients: Mapping[int, NbdClient], output: int) -> None:
    """Write an archive of the disks by their numbers to a descriptor; one thread reads ahead of it. Raises OSError."""
    parts: queue.Queue[_Part | BaseException | None] = queue.Queue(4 * _BUFFERS)
    free: queue.SimpleQueue[bytearray] = queue.SimpleQueue()
    for _ in range(_BUFFERS):
        free.put(bytearray(_PART))
    read = parse_header(header)
    threading.Thread(target=_read_all, args=(read, clients, parts, free), daemon=True).start()
    held: list[bytearray] = []

    def write(pieces: Sequence[Buffer]) -> None:
        _write_all(output, pieces)
        while held:
            free.put(held.pop())

    writer = Writer(write, header)
    while (part := parts.get()) is not None:
        if isinstance(part, BaseException):
            raise part
        number, cluster, data, length = part
        if data is None:
            writer.zeros(number, cluster, cluster - (-length // CLUSTER))
            continue
        writer.data(number, cluster, data, length)
        # Only now: what was written meanwhile had only a part of it.
        held.append(data)
        if len(held) >= _BUFFERS - _AHEAD - 4:
            writer.flush()
    writer.flush()


def _read_all(
    header: Header,
    clients: Mapping[int, NbdClient],
    parts: "queue.Queue[_Part | BaseException | None]",
    free: "queue.SimpleQueue[bytearray]",
) -> None:
    try:
        for number, device in header.devices.items():
            try:
                for part in _read_disk(number, clients[number], device.size, free):
                    parts.put(part)
            except OSError as error:
                raise HostFailure(f"'{device.name}' cannot be read: {_words(error)}") from error
        parts.put(None)
    except BaseException as error:  # the thread that writes raises it
        parts.put(error)


def _read_disk(number: int, client: NbdClient, size: int, free: "queue.SimpleQueue[bytearray]") -> Iterator[_Part]:
    if client.size < size:
        raise HostFailure(f"a disk of {size} bytes is served with {client.size} bytes")
    asked: deque[tuple[int, bytearray, int]] = deque()
    zeros: deque[_Part] = deque()

    def wanted() -> Iterator[tuple[int, memoryview]]:
        for begin, end, zero in stretches(client, size):
            if zero:
                zeros.append((number, begin // CLUSTER, None, end - begin))
                continue
            for at in range(begin, end, _PART):
                buffer, length = free.get(), min(_PART, end - at)
                asked.append((at // CLUSTER, buffer, length))
                yield at, memoryview(buffer)[:length]

    for _ in client.reads(wanted(), _AHEAD):
        cluster, buffer, length = asked.popleft()
        yield number, cluster, buffer, length
        yield from zeros
        zeros.clear()
    yield from zeros


def stretches(client: NbdClient, size: int) -> Iterator[tuple[int, int, bool]]:
    """The disk from its beginning to its end: from where to where, and whether nothing but zeros is there.

    All but the end of the disk are at whole clusters. Raises OSError.
    """
    begin = 0
    for start, end in _zeros(client, size):
        first, last = -(-start // CLUSTER) * CLUSTER, size if end == size else end // CLUSTER * CLUSTER
        if first < last:
            if begin < first:
                yield begin, first, False
            yield first, last, True
            begin = last
    if begin < size:
        yield begin, size, False


def _zeros(client: NbdClient, size: int) -> Iterator[tuple[int, int]]:
    at = begin = 0
    zeros = False
    while at < size:
        for length, zero in client.block_status(at, size - at):
            if zero and not zeros:
                begin = at
            elif zeros and not zero:
                yield begin, at
            zeros = zero
            at += length
    if zeros:
        yield begin, at


def _write_all(output: int, pieces: Sequence[Buffer]) -> None:
    left = [memoryview(piece) for piece in pieces]
    while left:
        done = os.writev(output, left[:_MOST_PARTS])
        while left and done >= len(left[0]):
            done -= len(left.pop(0))
        if done:
            left[0] = left[0][done:]


def unpack(source: Readable, clients: Mapping[str, NbdClient | RawDisk], zeroed: Mapping[str, bool]) -> None:
    """Read an archive to its end and write the disks of `clients` by their options. Raises HostFailure, OSError."""
    reader = Reader(source)
    sizes = reader.header.disks
    for key, client in clients.items():
        if key not in sizes:
            raise HostFailure(f"the archive holds no disk '{key}'")
        if client.size < sizes[key] or client.read_only:
            raise HostFailure(f"the disk '{key}' of {sizes[key]} bytes cannot be written to {client.size} bytes")
    names = {device_name(key): key for key in clients}
    numbers = {number: names[device.name] for number, device in reader.header.devices.items() if device.name in names}
    for number, offset, length, data in reader.pieces():
        if number not in numbers:
            continue
        key = numbers[number]
        try:
            if data is not None:
                clients[key].write(offset, data)
            elif not zeroed[key]:
                clients[key].write_zeroes(offset, length)
        except OSError as error:
            raise HostFailure(f"'{key}' cannot be written: {_words(error)}") from error
    for key, client in clients.items():
        try:
            if not zeroed[key] and client.size > sizes[key]:
                client.write_zeroes(sizes[key], client.size - sizes[key])
            client.flush()
        except OSError as error:
            raise HostFailure(f"'{key}' cannot be written: {_words(error)}") from error


def _words(error: OSError) -> str:
    known = os.strerror(error.errno) if error.errno else str(error)
    return known if error.strerror in (None, known) else f"{known} ({error.strerror})"


def run(parent: int, work: str, plan: int) -> None:
    """Do the work that the descriptor `plan` tells of, shut in."""
    with open(plan, "rb") as file:
        file.seek(0)
        told = json.load(file)
    with ExitStack() as stack:
        sockets = {key: socket.socket(fileno=number) for key, number in told["sockets"].items()}
        seclude(parent, memory=_MEMORY)
        names = told["exports"]
        clients = {key: stack.enter_context(NbdClient(sockets[key], names.get(key, ""))) for key in sockets}
        if work == "pack":
            pack(bytes.fromhex(told["header"]), {int(key): client for key, client in clients.items()}, 1)
        else:
            files = {key: RawDisk(number) for key, number in told["files"].items()}
            with open(0, "rb", buffering=0, closefd=False) as source:
                unpack(source, {**clients, **files}, told["zeroed"])


def main() -> None:
    """Do what the arguments say; a failure is one line on standard error and the exit code 1."""
    parent, work, plan = sys.argv[1:]
    try:
        run(int(parent), work, int(plan))
    except OSError as error:
        print(_words(error), file=sys.stderr)
    except (HostFailure, ValueError) as error:
        print(error, file=sys.stderr)
    except MemoryError:
        print("the archive asks for more memory than it is worth", file=sys.stderr)
    else:
        return
    sys.stderr.flush()
    os._exit(1)  # whatever a thread still waits for
