"""A helper process that writes the files of a borg archive as a tar stream with all that a container needs of them.

`borg export-tar` leaves out extended attributes and access control lists. `borg debug dump-archive` tells them, so that
they are put into the stream as pax headers, in tar(1)'s words, before the members they belong to. When only some paths
are asked for that is left out: to look through all of them takes longer than to read one file.

Sources: borg-export-tar(1), borg-debug(1), the pax format of pax(1) and of tar(5) of libarchive (SCHILY.xattr), acl(5).
"""

import asyncio
import contextlib
import errno
import io
import json
import os
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from typing import IO, Any

from bastide.host import syscalls
from bastide.host.run import spawn

_BLOCK = 512
_PART = 1 << 20
_BORG = "/usr/bin/borg"
_SECRET = "BORG_PASSPHRASE_FD"  # noqa: S105 - the name of a variable
_LISTS = {"acl_access": "SCHILY.acl.access", "acl_default": "SCHILY.acl.default"}
_KEPT = ("user.", "security.capability")
_LONG = 1 << 16
_MEMORY, _ENTRY = 1 << 30, 500
"""What a host can spare, and what Python takes for an entry besides its bytes."""


def pax_header(records: Mapping[bytes, bytes]) -> bytes:
    """The blocks of an extended header with these records."""
    content = b"".join(_record(key, value) for key, value in records.items())
    header = bytearray(_BLOCK)
    header[0:12] = b"PaxHeaders/x"
    for place, text in ((100, b"0000644\0"), (108, b"0000000\0"), (116, b"0000000\0")):
        header[place : place + 8] = text
    header[124:136] = b"%011o\0" % len(content)
    header[136:148] = b"%011o\0" % 0
    header[156:157] = b"x"
    header[257:265] = b"ustar\00000"
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + content + bytes(-len(content) % _BLOCK)


def _record(key: bytes, value: bytes) -> bytes:
    body = b" " + key + b"=" + value + b"\n"
    length = len(body)
    while len(str(length)) + len(body) != length:
        length = len(str(length)) + len(body)
    return b"%d" % length + body


def merge(stream: IO[bytes], sink: IO[bytes], extra: Mapping[bytes, Mapping[bytes, bytes]]) -> None:
    """Copy a GNU tar stream, with an extended header before each member of which `extra` tells one.

    Raises ValueError for a stream that is none.
    """
    name: bytes | None = None
    held = b""
    while header := _exactly(stream, _BLOCK):
        if not any(header):
            sink.write(header)
            continue
        size = _number(header[124:136])
        padded = size + -size % _BLOCK
        if header[156:157] in (b"L", b"K"):
            if padded > _LONG:
                raise ValueError("a name in the tar stream is too long")
            content = _exactly(stream, padded)
            held += header + content
            if header[156:157] == b"L":
                name = content[:size].rstrip(b"\0")
            continue
        known = header[:100].rstrip(b"\0") if name is None else name
        records = extra.get(known.rstrip(b"/"))
        sink.write((pax_header(records) if records else b"") + held + header)
        name, held = None, b""
        while padded:
            part = _exactly(stream, min(padded, _PART))
            if not part:
                raise ValueError("the tar stream ends in the middle of a file")
            sink.write(part)
            padded -= len(part)


def _exactly(stream: IO[bytes], length: int) -> bytes:
    data = stream.read(length)
    if data and len(data) != length:
        raise ValueError("the tar stream ends too early")
    return data


def _number(field: bytes) -> int:
    """A size: octal digits, or a number to the base of 256 of GNU's."""
    if field[0] & 0x80:
        return int.from_bytes(field, "big") & ((1 << 88) - 1)
    return int(field.rstrip(b"\0 ") or b"0", 8)


def attributes(items: Iterator[Mapping[str, Any]]) -> dict[bytes, dict[bytes, bytes]]:
    """What a tar stream lacks of the items below `root` that borg tells: {path in the guest: {record: value}}.

    Raises ValueError when it is more than can be held in memory.
    """
    found: dict[bytes, dict[bytes, bytes]] = {}
    held = 0
    for item in items:
        records: dict[bytes, bytes] = {}
        for key, value in dict(item.get("xattrs") or {}).items():
            name = _raw(key).decode(errors="surrogateescape")
            if name.startswith(_KEPT):
                records[b"SCHILY.xattr." + name.encode(errors="surrogateescape")] = _raw(value or "")
        for key, record in _LISTS.items():
            if text := _raw(item.get(key) or ""):
                records[record.encode()] = b",".join(map(_entry, text.split()))
        path = _raw(item.get("path", ""))
        if records and path.startswith(b"root/"):
            found[path.removeprefix(b"root/")] = records
            held += _ENTRY + len(path) + sum(map(len, records)) + sum(map(len, records.values()))
            if held > _MEMORY:
                raise ValueError(f"its files have more extended attributes than {_MEMORY >> 20} MiB can hold")
    return found


def _entry(line: bytes) -> bytes:
    """An entry of an access control list: borg keeps `user:NAME:rwx:ID`, NAME the number with --numeric-ids."""
    parts = line.split(b":")
    return b":".join([parts[0], parts[3] if len(parts) > 3 else parts[1], parts[2]]) if len(parts) > 2 else line


def _raw(text: str) -> bytes:
    """Bytes as borg's dump writes them: text, or hexadecimal digits behind a character (DEL)."""
    if text.startswith("\x7f"):
        return bytes.fromhex(text[1:])
    return text.encode(errors="surrogateescape")


def items_of(dump: Iterable[str]) -> Iterator[Mapping[str, Any]]:
    """The items of what `borg debug dump-archive` wrote, one at a time: all at once may be more than the memory."""
    lines: list[str] = []
    within = False
    for line in dump:
        if not within:
            within = line.startswith('    "_items": [')
        elif line.startswith("    ]"):
            return
        else:
            lines.append(line)
            if line.rstrip("\n") in ("    }", "    },"):
                yield json.loads("".join(lines).rstrip().removesuffix(","))
                lines = []


def _environment(variables: Mapping[str, str]) -> tuple[dict[str, str], tuple[int, ...]]:
    """A child's variables and what it inherits: the passphrase is read anew by each, from its beginning."""
    given = variables.get(_SECRET)
    if given is None:
        return dict(variables), ()
    descriptor = os.open(f"/proc/self/fd/{given}", os.O_RDONLY)
    return {**variables, _SECRET: str(descriptor)}, (descriptor,)


@contextlib.asynccontextmanager
async def _borg(variables: Mapping[str, str], arguments: Sequence[str]) -> AsyncIterator[tuple[Process, IO[bytes]]]:
    """A borg that runs, and what it writes."""
    environment, inherited = _environment(variables)
    reading, writing = os.pipe2(os.O_CLOEXEC)
    argv = ["/usr/bin/setpriv", "--pdeathsig", "KILL", "--", _BORG, *arguments]
    with os.fdopen(reading, "rb", buffering=_PART) as stream:
        try:
            process = await spawn(
                argv, env=environment, stdout=writing, stderr=2, pass_fds=inherited, new_session=False
            )
        finally:
            for descriptor in (writing, *inherited):
                os.close(descriptor)
        yield process, stream


async def run(variables: Mapping[str, str], repository: str, name: str, paths: Sequence[str]) -> int:
    """Write the stream; the exit code of the borg that failed, or 0."""
    archive = f"{repository}::{name}"
    extra: dict[bytes, dict[bytes, bytes]] = {}
    if not paths:
        async with _borg(variables, ["debug", "dump-archive", archive, "-"]) as (asked, dump):
            extra = attributes(items_of(io.TextIOWrapper(dump, encoding="utf-8")))
            if code := await asked.wait():
                return code
    wanted = [f"pp:root/{path.strip('/')}" for path in paths] or ["pp:root"]
    arguments = ["export-tar", "--strip-components", "1", archive, "-", *wanted]
    async with _borg(variables, arguments) as (asked, stream):
        with os.fdopen(1, "wb", buffering=_PART, closefd=False) as sink:
            merge(stream, sink, extra)
        code = await asked.wait()
        # A path that is not there is a warning of borg's: the stream is empty then.
        return 0 if paths and code == 1 else code


def main() -> None:
    """Do what the arguments say: the daemon's process id, variables for borg as JSON, repository, archive, paths."""
    parent, variables, repository, name, *paths = sys.argv[1:]
    try:
        syscalls.die_with_parent()
        if os.getppid() != int(parent):
            raise OSError(errno.ESRCH, "the daemon has ended")
        sys.exit(asyncio.run(run(json.loads(variables), repository, name, paths)))
    except (OSError, ValueError) as error:
        print(f"cannot read the backup: {error}", file=sys.stderr)
        sys.exit(125)
