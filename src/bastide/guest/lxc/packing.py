"""What tar(1) and rsync(1) are asked for, to write a container's files, read them, and copy them.

A backup has Proxmox VE's form: names begin with `./`, owners are the guest's own numbers, and the guest's configuration
comes first, in `./etc/vzdump`.

Sources: tar(1), rsync(1), GNU tar's manual on patterns, vzdump(1) on `exclude-path`.
"""

import contextlib
import os
import re
import tarfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence

from bastide.base.errors import InvalidParameter

CONFIG_FOLDER = "./etc/vzdump"
"""Where a backup has the guest's configuration, as Proxmox VE writes it."""

FINE = frozenset({0, 1})
"""tar's exit codes for a whole archive; 1 says that a file changed while it was read, as those of running guests do."""

_ATTRIBUTES = ("--xattrs", "--xattrs-include=security.capability", "--xattrs-include=user.*")
_LOST = "lost+found"
# A command line has room for 2 MiB (execve(2)).
_MOST_PATTERNS = 1024 * 1024
_UNFIT = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")

UNPACK = (
    "/usr/bin/tar", "--extract", "--file=-", "--directory=/target", "--numeric-owner", "--same-owner",
    "--preserve-permissions", "--acls", *_ATTRIBUTES, "--warning=no-timestamp", "--warning=no-xattr-write",
    "--anchored", "--exclude=./dev/*", "--exclude=dev/*", f"--exclude={CONFIG_FOLDER}", "--exclude=etc/vzdump",
)  # fmt: skip
"""What unpacks a template or a backup."""

_COPIED = (
    "--numeric-owner", "--acls", *_ATTRIBUTES, "--anchored", "--exclude=./dev/*", f"--exclude=./{_LOST}",
)  # fmt: skip
COPY_OUT = (
    "/usr/bin/tar", "--create", "--file=-", "--directory=/target", "--one-file-system", "--sparse", *_COPIED,
    "--warning=no-file-ignored", ".",
)  # fmt: skip
COPY_IN = (
    "/usr/bin/tar", "--extract", "--file=-", "--directory=/target", "--same-owner", "--preserve-permissions", *_COPIED,
    "--warning=no-timestamp",
)  # fmt: skip
"""What copies one volume to another of the same guest."""


def pack(mounts: Iterable[str], exclude: Sequence[str]) -> Sequence[str]:
    """What writes /target, with volumes at the places `mounts`, but for what matches a pattern.

    Patterns are Proxmox VE's: shell globs, from the guest's root on if they begin with `/`, at any depth else. Raises
    InvalidParameter naming `exclude-path`.
    """
    anchored = [f".{_plain(place)}/{_LOST}" for place in ("", *mounts)]
    anchored += [CONFIG_FOLDER, *(f".{pattern}" for pattern in _checked(exclude) if pattern.startswith("/"))]
    floating = [pattern for pattern in _checked(exclude) if not pattern.startswith("/")]
    return [
        "/usr/bin/tar", "--create", "--file=-", "--directory=/target", "--format=posix", "--sparse", "--numeric-owner",
        "--acls", *_ATTRIBUTES, "--warning=no-file-ignored", "--warning=no-xattr-write",
        "--wildcards", "--wildcards-match-slash",
        "--anchored", *(f"--exclude={pattern}" for pattern in anchored),
        "--no-anchored", *(f"--exclude={pattern}" for pattern in floating),
        "--", ".",
    ]  # fmt: skip


def follow(mounts: Iterable[str], exclude: Sequence[str], rate: int = 0) -> Sequence[str]:
    """What makes /target like /source, writing what differs alone, at most `rate` bytes a second (0: no limit).

    Raises InvalidParameter as `pack` does.
    """
    limit = [f"--bwlimit={max(1, rate // 1024)}"] if rate else []
    anchored = [f"{_plain(place)}/{_LOST}" for place in ("", *mounts)]
    patterns = [*anchored, CONFIG_FOLDER.removeprefix("."), *_checked(exclude)]
    return [
        "/usr/bin/rsync", "--archive", "--hard-links", "--acls", "--xattrs", "--numeric-ids", "--sparse", "--inplace",
        "--whole-file", "--delete", "--no-devices", "--quiet", *limit,
        "--filter=+x user.*", "--filter=+x security.capability", "--filter=-x *",
        *(f"--filter=- {pattern}" for pattern in patterns),
        "--", "/source/", "/target/",
    ]  # fmt: skip


def members(files: Mapping[str, bytes]) -> bytes:
    """The beginning of a backup's tar stream: the folder of its configuration, and these files in it."""
    folder = tarfile.TarInfo(CONFIG_FOLDER + "/")
    folder.type, folder.mode, folder.mtime = tarfile.DIRTYPE, 0o755, int(time.time())
    written = folder.tobuf(tarfile.PAX_FORMAT)
    for name, content in files.items():
        member = tarfile.TarInfo(f"{CONFIG_FOLDER}/{name}")
        member.size, member.mode, member.mtime = len(content), 0o644, folder.mtime
        written += member.tobuf(tarfile.PAX_FORMAT) + content + bytes(-len(content) % tarfile.BLOCKSIZE)
    return written


@contextlib.contextmanager
def opened(content: bytes) -> Iterator[int]:
    """A descriptor of a file in memory with that content (memfd_create(2)). A process may inherit it."""
    descriptor = os.memfd_create("backup", os.MFD_CLOEXEC)
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(content)
        yield descriptor
    finally:
        os.close(descriptor)


def _checked(patterns: Sequence[str]) -> Sequence[str]:
    if sum(len(pattern.encode(errors="replace")) for pattern in patterns) > _MOST_PATTERNS:
        raise InvalidParameter({"exclude-path": f"the patterns have more than {_MOST_PATTERNS} bytes together"})
    found = []
    for pattern in patterns:
        # A folder's name has no slash at its end when it is compared.
        kept = pattern.rstrip("/")
        if not kept or len(kept) > 4096 or _UNFIT.search(kept):
            raise InvalidParameter({"exclude-path": f"'{pattern[:200]}' is not a pattern of paths in the guest"})
        found.append(kept)
    return found


def _plain(path: str) -> str:
    """A path as a pattern that matches nothing else."""
    return re.sub(r"([\\*?\[])", r"\\\1", path)
