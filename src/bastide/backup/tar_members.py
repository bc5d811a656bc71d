"""A helper program that finds members of a tar stream: a folder's list, one file, or a folder as an archive.

    python3 -I -S tar_members.py list|file|tar|zip PATH < STREAM

It runs in the sandbox, which shows it this file and no other, and so it imports nothing of ours. `list` writes a line
of JSON an entry (`name`, `type`, `size`, `mtime`), `file` the content, the others an archive of what lies below PATH.
It reads no further than it must. Exit codes: 3 when there is no such member, 4 when it is not of that kind; then a
link tells on standard error where it leads, in the guest's root: `link NAME` a hard one, `symlink NAME` a symbolic one,
also one on the way to PATH.

Sources: tar(5), APPNOTE.TXT of the ZIP format.
"""

import itertools
import json
import posixpath
import shutil
import sys
import tarfile
import time
import zipfile
from collections.abc import Iterator
from typing import BinaryIO

LISTED = 100_000
"""Entries of a folder that are told; one more says that there are more."""
NOT_FOUND = 3
OTHER_KIND = 4

_OWN = "etc/vzdump"
_TYPES = {
    tarfile.DIRTYPE: "d",
    tarfile.SYMTYPE: "l",
    tarfile.LNKTYPE: "h",
    tarfile.CHRTYPE: "c",
    tarfile.BLKTYPE: "b",
    tarfile.FIFOTYPE: "p",
}
_CHUNK = 1 << 20
_LONGEST = 4096
_FIRST_OF_ZIP = (1980, 1, 1, 0, 0, 0)
_LINK = 0o120777 << 16


def plain(name: str) -> str | None:
    """A member's name from the guest's root on, without `./`; None for one that leads anywhere else."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    return None if ".." in parts else "/".join(parts)


def kind(member: tarfile.TarInfo) -> str:
    """The type of a member, in the letter that Proxmox VE has for it."""
    return _TYPES.get(member.type, "f")


def listing(members: Iterator[tuple[str, tarfile.TarInfo]], path: str) -> Iterator[dict[str, object]]:
    """The entries of a folder. Raises SystemExit when there is none of that name."""
    told: set[str] = set()
    inside, there = f"{path}/" if path else "", not path
    for name, member in members:
        if name == path:
            if path and not member.isdir():
                sys.exit(OTHER_KIND)
            there = True
            continue
        if not name.startswith(inside):
            continue
        there = True
        entry, deeper, _ = name[len(inside) :].partition("/")
        if entry in told or len(entry) > _LONGEST:
            continue
        told.add(entry)
        if deeper:
            yield {"name": entry, "type": "d"}
        else:
            yield {"name": entry, "type": kind(member), "size": member.size, "mtime": int(member.mtime)}
    if not there:
        sys.exit(NOT_FOUND)


def write_file(archive: tarfile.TarFile, members: Iterator[tuple[str, tarfile.TarInfo]], path: str) -> None:
    """Write a file's content. One that is a hard link is told on standard error as `link TARGET`."""
    for name, member in members:
        if name != path:
            continue
        if member.islnk():
            print(f"link {plain(member.linkname) or ''}", file=sys.stderr)
            sys.exit(OTHER_KIND)
        source = archive.extractfile(member) if member.isreg() else None
        if source is None:
            sys.exit(OTHER_KIND)
        shutil.copyfileobj(source, sys.stdout.buffer, _CHUNK)
        return
    sys.exit(NOT_FOUND)


def write_tar(archive: tarfile.TarFile, members: Iterator[tuple[str, tarfile.TarInfo]], path: str) -> None:
    """Write what lies below a folder as a tar stream, with owners, modes and times."""
    with tarfile.open(fileobj=sys.stdout.buffer, mode="w|", format=tarfile.PAX_FORMAT) as made:
        for name, member in _below(members, path):
            member.name = name or "."
            if member.islnk():
                target = plain(member.linkname)
                if target is None or not f"{target}/".startswith(f"{path}/" if path else ""):
                    continue
                member.linkname = _relative(target, path)
            if member.isreg():
                # What was stored with holes is written out.
                member.type = tarfile.REGTYPE
                member.pax_headers = {k: v for k, v in member.pax_headers.items() if not k.startswith("GNU.sparse.")}
            made.addfile(member, archive.extractfile(member) if member.isreg() else None)


def write_zip(archive: tarfile.TarFile, members: Iterator[tuple[str, tarfile.TarInfo]], path: str) -> None:
    """Write the files, folders and symbolic links below a folder as a ZIP archive."""
    with zipfile.ZipFile(sys.stdout.buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as made:
        for name, member in _below(members, path):
            if not name:
                continue
            shown = name.encode(errors="surrogateescape").decode(errors="replace")
            when = max(time.localtime(member.mtime)[:6], _FIRST_OF_ZIP)
            info = zipfile.ZipInfo(shown + ("/" if member.isdir() else ""), when)
            info.compress_type, info.external_attr = zipfile.ZIP_DEFLATED, (member.mode & 0o777) << 16
            source = archive.extractfile(member) if member.isreg() else None
            if source is not None:
                with made.open(info, "w", force_zip64=True) as target:
                    shutil.copyfileobj(source, target, _CHUNK)
            elif member.isdir():
                made.writestr(info, b"")
            elif member.issym():
                info.external_attr = _LINK
                made.writestr(info, member.linkname.encode(errors="surrogateescape"))


def _below(members: Iterator[tuple[str, tarfile.TarInfo]], path: str) -> Iterator[tuple[str, tarfile.TarInfo]]:
    """The members at and below a folder, with the names that they have from it on."""
    found = False
    for name, member in members:
        if name == path and path and not member.isdir():
            sys.exit(OTHER_KIND)
        if name == path or not path or name.startswith(f"{path}/"):
            found = True
            yield _relative(name, path), member
    if not found:
        sys.exit(NOT_FOUND)


def _relative(name: str, path: str) -> str:
    return name[len(path) :].lstrip("/")


def _up_to_links(members: Iterator[tuple[str, tarfile.TarInfo]], path: str) -> Iterator[tuple[str, tarfile.TarInfo]]:
    """The members, until a symbolic link is at the path or on the way to it. Raises SystemExit for that one."""
    for name, member in members:
        if member.issym() and f"{path}/".startswith(f"{name}/"):
            place = posixpath.join("/", posixpath.dirname(name), member.linkname, _relative(path, name))
            print(f"symlink {posixpath.normpath(place).lstrip('/')}", file=sys.stderr)
            sys.exit(OTHER_KIND)
        yield name, member


def _members(archive: tarfile.TarFile) -> Iterator[tuple[str, tarfile.TarInfo]]:
    while (member := archive.next()) is not None:
        archive.members.clear()  # type: ignore[attr-defined]  # a stream of a million members must not be kept
        name = plain(member.name)
        # The configuration that a backup begins with is no file of the guest's.
        if name is not None and name != _OWN and not name.startswith(f"{_OWN}/"):
            yield name, member


def main(stream: BinaryIO, act: str, path: str) -> None:
    """Do one of the acts. What is wrong with the stream is one line on standard error and the exit code 1."""
    path = plain(path) or ""
    try:
        with tarfile.open(fileobj=stream, mode="r|", errors="surrogateescape") as archive:
            members = _up_to_links(_members(archive), path)
            if act == "list":
                for entry in itertools.islice(listing(members, path), LISTED + 1):
                    sys.stdout.write(json.dumps(entry) + "\n")
            else:
                {"file": write_file, "tar": write_tar, "zip": write_zip}[act](archive, members, path)
        sys.stdout.flush()
    except (tarfile.TarError, EOFError, OSError, ValueError) as error:
        print(f"the archive cannot be read: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main(sys.stdin.buffer, sys.argv[1], sys.argv[2])
