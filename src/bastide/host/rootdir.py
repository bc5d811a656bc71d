"""Files inside a guest's root, seen as the guest sees them: a link can lead nowhere outside of it.

Every access resolves with openat2(2) `RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS`, which treats the root folder as `/`
for absolute links and `..` alike, in one step, so that a running guest cannot win a race. Objects that are no plain
file or folder (FIFOs, devices, sockets) are refused.
"""

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from bastide.base.errors import HostFailure, NoSpace, NotFound
from bastide.host import syscalls

READ_LIMIT = 1024 * 1024
_RESOLVE = syscalls.RESOLVE_IN_ROOT | syscalls.RESOLVE_NO_MAGICLINKS
_DIRECTORY = os.O_DIRECTORY | os.O_RDONLY


class RootDir:
    """A guest's root folder. `owner` is the id on disk of the guest's root: 0, or the first one of a shifted map.

    Use it as a context manager. Paths are the guest's, with or without the leading slash. Every method raises
    NotFound for a missing object, NoSpace for a full disk and HostFailure for everything else that is wrong.
    """

    def __init__(self, path: Path | int, owner: int | None = None) -> None:
        """Open the folder at `path`, or one that is a descriptor already (it is duplicated).

        Without `owner` it is the folder's own.
        """
        try:
            self._fd = os.dup(path) if isinstance(path, int) else os.open(path, os.O_PATH | os.O_DIRECTORY)
        except OSError as error:
            raise _failure(str(path), error) from None
        self.owner = os.fstat(self._fd).st_uid if owner is None else owner

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the folder."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    @contextlib.contextmanager
    def open(self, path: str, flags: int) -> Iterator[int]:
        """A descriptor of an object in the root: a plain file, a folder, or with O_PATH whatever it is."""
        if not flags & os.O_PATH and not flags & os.O_DIRECTORY:
            # A first look through O_PATH has no side effect on a device and does not wait for a FIFO's other end.
            with self.open(path, os.O_PATH) as found:
                if not stat.S_ISREG(os.fstat(found).st_mode):
                    raise HostFailure(f"'{path}' in the guest is not a plain file")
                with _errors(path):
                    descriptor = os.open(f"/proc/self/fd/{found}", flags | os.O_CLOEXEC)
        else:
            with _errors(path):
                descriptor = syscalls.openat2(self._fd, _relative(path), flags, 0, _RESOLVE)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def _parent(self, path: str) -> Iterator[tuple[int, str]]:
        """The open folder that holds `path`, and the last component. Links on the way are followed in the root."""
        folder, _, name = _relative(path).rpartition("/")
        if name in ("", ".", ".."):
            raise HostFailure(f"'{path}' in the guest does not name a file")
        with self.open(folder or ".", _DIRECTORY) as parent:
            yield parent, name

    def stat(self, path: str, *, follow: bool = True) -> os.stat_result | None:
        """What lies at the path, or None."""
        flags = os.O_PATH | (0 if follow else os.O_NOFOLLOW)
        try:
            with self.open(path, flags) as descriptor:
                return os.fstat(descriptor)
        except NotFound:
            return None

    def is_file(self, path: str) -> bool:
        """Whether a plain file lies at the path, links followed inside the root."""
        found = self._stat_or_none(path)
        return found is not None and stat.S_ISREG(found.st_mode)

    def is_dir(self, path: str) -> bool:
        """Whether a folder lies at the path, links followed inside the root."""
        found = self._stat_or_none(path)
        return found is not None and stat.S_ISDIR(found.st_mode)

    def is_executable(self, path: str) -> bool:
        """Whether the path is a plain file that anyone may execute."""
        found = self._stat_or_none(path)
        return found is not None and stat.S_ISREG(found.st_mode) and found.st_mode & 0o111 != 0

    def exists(self, path: str) -> bool:
        """Whether anything, a dangling link included, lies at the path."""
        try:
            return self.stat(path, follow=False) is not None
        except HostFailure:
            return False

    def _stat_or_none(self, path: str) -> os.stat_result | None:
        try:
            return self.stat(path)
        except HostFailure:
            return None

    def read(self, path: str, limit: int = READ_LIMIT) -> bytes:
        """The content of a plain file of at most `limit` bytes."""
        with self.open(path, os.O_RDONLY) as descriptor:
            content = bytearray()
            with _errors(path):
                while chunk := os.read(descriptor, min(limit + 1 - len(content), 65536)):
                    content += chunk
                    if len(content) > limit:
                        raise HostFailure(f"'{path}' in the guest is larger than {limit} bytes")
            return bytes(content)

    def read_text(self, path: str, limit: int = READ_LIMIT) -> str | None:
        """The text of a plain file, or None when there is none to read."""
        try:
            return self.read(path, limit).decode(errors="surrogateescape")
        except (HostFailure, NotFound):
            return None

    def listdir(self, path: str) -> list[str]:
        """Names in a folder, sorted; none when there is no such folder."""
        if not self.is_dir(path):
            return []
        with self.open(path, _DIRECTORY) as descriptor, _errors(path):
            return sorted(os.listdir(descriptor))

    def readlink(self, path: str) -> str | None:
        """Where a link points, or None when it is none."""
        try:
            with self._parent(path) as (parent, name):
                return os.readlink(name, dir_fd=parent)
        except (OSError, NotFound, HostFailure):
            return None

    def mkdir(self, path: str, mode: int = 0o755) -> None:
        """Make a folder and those above it; one that exists is fine."""
        parts = [part for part in _relative(path).split("/") if part not in ("", ".")]
        for end in range(1, len(parts) + 1):
            folder = "/".join(parts[:end])
            if self.is_dir(folder):
                continue
            with self._parent(folder) as (parent, name), _errors(path):
                with syscalls.acting_as(self.owner):
                    os.mkdir(name, mode if end == len(parts) else 0o755, dir_fd=parent)
                os.chown(name, self.owner, self.owner, dir_fd=parent, follow_symlinks=False)

    def write(
        self, path: str, content: bytes | str, *, mode: int = 0o644, uid: int = 0, gid: int = 0, replace: bool = True
    ) -> None:
        """Write a file in one step (a new file renamed over the old one): a link in its place is replaced.

        `uid` and `gid` are the guest's. The folder must exist. Without `replace` a file that exists stays.
        """
        data = content.encode(errors="surrogateescape") if isinstance(content, str) else content
        with self._parent(path) as (parent, name), _errors(path):
            found = _lstat(parent, name)
            if found is not None and (not replace or stat.S_ISDIR(found.st_mode)):
                if stat.S_ISDIR(found.st_mode):
                    raise HostFailure(f"'{path}' in the guest is a folder")
                return
            temporary = f".{name[:200]}.{secrets.token_hex(4)}"
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            with syscalls.acting_as(self.owner):
                descriptor = os.open(temporary, flags, 0o600, dir_fd=parent)
            try:
                _write_all(descriptor, data)
                os.fchown(descriptor, self.owner + uid, self.owner + gid)
                os.fchmod(descriptor, mode)
                os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(temporary, dir_fd=parent)
                raise
            finally:
                os.close(descriptor)

    def update(self, path: str, content: str, *, mode: int = 0o644) -> None:
        """Write a file as root unless it holds that very text already; an existing one keeps its mode and owner.

        A link that leads to a plain file in the root is followed, as an administrator of the guest would expect.
        """
        if self.read_text(path) == content and self.is_file(path):
            return
        found = self._stat_or_none(path)
        if found is None or not stat.S_ISREG(found.st_mode):
            self.write(path, content, mode=mode)
            return
        target = self._resolved(path)
        self.write(
            target,
            content,
            mode=stat.S_IMODE(found.st_mode),
            uid=found.st_uid - self.owner,
            gid=found.st_gid - self.owner,
        )

    def _resolved(self, path: str, depth: int = 0) -> str:
        """The path with links in its last component followed (at most eight), still relative to the root."""
        target = self.readlink(path)
        if target is None or depth == 8:
            return path
        return self._resolved(target if target.startswith("/") else f"{path.rpartition('/')[0]}/{target}", depth + 1)

    def symlink(self, target: str, path: str) -> None:
        """Make a link (its text is not looked at), in place of a file or link that is there."""
        if self.readlink(path) == target:
            return
        with self._parent(path) as (parent, name), _errors(path):
            temporary = f".{name[:200]}.{secrets.token_hex(4)}"
            with syscalls.acting_as(self.owner):
                os.symlink(target, temporary, dir_fd=parent)
            try:
                os.chown(temporary, self.owner, self.owner, dir_fd=parent, follow_symlinks=False)
                os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(temporary, dir_fd=parent)
                raise

    def unlink(self, path: str) -> None:
        """Remove a file or link; one that is not there is fine."""
        with contextlib.suppress(NotFound), self._parent(path) as (parent, name), _errors(path):
            os.unlink(name, dir_fd=parent)

    def chmod(self, path: str, mode: int) -> None:
        """Set the mode of a plain file or folder."""
        with self.open(path, _DIRECTORY if self.is_dir(path) else os.O_RDONLY) as descriptor, _errors(path):
            os.fchmod(descriptor, mode)


def _relative(path: str) -> str:
    if "\0" in path:
        raise HostFailure("a path in the guest cannot hold NUL")
    return path.strip("/") or "."


def _lstat(parent: int, name: str) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


@contextlib.contextmanager
def _errors(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _failure(path, error) from None


def _failure(path: str, error: OSError) -> NotFound | HostFailure:
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return NotFound(f"'{path}' does not exist in the guest")
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpace(f"cannot write '{path}' in the guest: {error.strerror}")
    return HostFailure(f"cannot use '{path}' in the guest: {error.strerror}")
