"""File systems of this machine: what is mounted, loop mounts, ext4 in a file, files put in place durably.

Sources: proc(5) for /proc/self/mountinfo, mkfs.ext4(8), resize2fs(8), EXT4_IOC_RESIZE_FS in linux/ext4.h.
"""

import asyncio
import contextlib
import errno
import fcntl
import os
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bastide.base.errors import AlreadyExists, HostFailure, InvalidParameter, NoSpace, NotSupported, RunError
from bastide.base.units import MIB
from bastide.host import loop, mount_table, syscalls
from bastide.host.run import run

_SMALLEST = re.compile(r"minimum size of the filesystem: (\d+)")
_FULL = 16 * MIB
_ERRORS = 2
_NEEDS_RECOVERY = 0x4
_TOOL_DEADLINE = 600.0
_COPY_DEADLINE = 24 * 3600.0
_RELEASE_DEADLINE = 5.0
_EXT4_RESIZE = 0x40086610


@dataclass(frozen=True, slots=True)
class MountEntry:
    """A line of mountinfo: `device` is `major:minor`, `options` the mount's and the file system's together."""

    target: Path
    source: str
    fstype: str
    device: str
    options: frozenset[str]


def parse_mountinfo(text: str) -> list[MountEntry]:
    """Read the text of /proc/PID/mountinfo, in mounting order. Faulty lines are left out."""
    entries = []
    for line in text.split("\n"):
        front, dash, back = line.partition(" - ")
        first, last = front.split(" "), back.split(" ")
        if dash and len(first) >= 6 and len(last) >= 3:
            options = frozenset([*first[5].split(","), *last[2].split(",")])
            entries.append(
                MountEntry(
                    Path(mount_table.unescape(first[4])), mount_table.unescape(last[1]), last[0], first[2], options
                )
            )
    return entries


def mounts() -> list[MountEntry]:
    """What is mounted in this process's namespace."""
    return parse_mountinfo(mount_table.text())


def mount_at(target: Path) -> MountEntry | None:
    """The topmost mount on exactly this folder, or None. Links in the path are resolved."""
    real = os.path.realpath(target)
    line = next((line for line, place in reversed(mount_table.places()) if place == real), None)
    return None if line is None else next(iter(parse_mountinfo(line)), None)


def mount_of(path: Path) -> MountEntry | None:
    """The mount that a path lies on. Links in the path are resolved."""
    return mount_over(Path(os.path.realpath(path)))


def mount_over(real: Path) -> MountEntry | None:
    """The mount that a path without links in it lies on. Touches no file system, so it never hangs."""
    path = str(real)
    # Of two at one place the later one hides the other.
    places = enumerate(mount_table.places())
    over = max(((len(place), number, line) for number, (line, place) in places if _within(path, place)), default=None)
    return None if over is None else next(iter(parse_mountinfo(over[2])), None)


def mounts_within(folder: Path) -> list[Path]:
    """Mount points on or below a folder."""
    real = os.path.realpath(folder)
    return [Path(place) for _, place in mount_table.places() if _within(place, real)]


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder if folder == "/" else f"{folder}/")


async def make_ext4(image: Path, size: int, content: Path | None = None) -> None:
    """Make a sparse file of `size` bytes with an ext4 file system in it; the file must not exist.

    It is empty, or has what the folder `content` has, with its owners, modes and attributes.
    Raises NoSpace, NotSupported, RunError; the caller removes the file then.
    """
    with translated(f"make {image}"):
        descriptor = os.open(image, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(descriptor, size)
        finally:
            os.close(descriptor)
    # No blocks are kept for the host's root: the guest's root is another user. The file is a hole already: nothing is
    # to be discarded in it, and its zeros need not be written, neither now nor by the kernel after the first mount.
    options = "root_owner=0:0,nodiscard,assume_storage_prezeroed=1,lazy_journal_init=1"
    filled = [] if content is None else ["-d", str(content)]
    await _tool(["mkfs.ext4", "-q", "-F", "-m", "0", "-E", options, *filled, "--", str(image)])


def space(folder: Path) -> tuple[int, int, int]:
    """Bytes of the file system that holds a folder: in all, used, and free for everyone (statvfs(3))."""
    figures = os.statvfs(folder)
    unit = figures.f_frsize
    return figures.f_blocks * unit, (figures.f_blocks - figures.f_bfree) * unit, figures.f_bavail * unit


async def mount_loop(image: Path, target: Path, *, read_only: bool = False) -> None:
    """Mount an ext4 image on a folder through a loop device that frees itself when unmounted."""
    # `nodev`: a guest's device nodes are none. Setuid must stay, it is the guest's; nobody else reaches the folder.
    flags = syscalls.MS_NODEV | (syscalls.MS_RDONLY if read_only else 0)
    with translated(f"mount {image}"):
        # The kernel would write zeros over the inode tables that resize2fs has added: they are holes of the image.
        await asyncio.to_thread(loop.mount, image, target, "ext4", flags, "noinit_itable")


async def unmount(target: Path) -> None:
    """Unmount a folder. Raises HostFailure when it is busy."""
    with translated(f"unmount {target}"):
        await asyncio.to_thread(syscalls.unmount, target, 0)


def loop_devices(image: Path) -> list[str]:
    """The loop devices over a file (`/dev/loop0`), whichever namespace they are mounted in."""
    wanted = os.path.realpath(image)
    found = []
    for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
        with contextlib.suppress(OSError):
            if backing.read_text().rstrip("\n") == wanted:
                found.append(f"/dev/{backing.parent.parent.name}")
    return found


async def check_ext4(image: Path, *, whole: bool = True) -> None:
    """Check an image's ext4 and repair what needs no decision; without `whole` only what its journal holds.

    Nothing has it mounted. Raises RunError.
    """
    # What a resize2fs was doing that was cut short needs every answer to be yes, as it says itself.
    decision = "-y" if whole and await asyncio.to_thread(_cut_short, image) else "-p"
    # 1 and 2 are repaired faults (e2fsck(8)).
    argv = ["e2fsck", *(["-f"] if whole else []), decision, "--", str(image)]
    checked = await run(argv, deadline=_TOOL_DEADLINE, check=False)
    if checked.code not in (0, 1, 2):
        told = [line for line in (checked.stderr or checked.text).splitlines() if "(i.e., " not in line]
        raise RunError(argv, checked.code, "\n".join(told))


async def shrink_ext4(image: Path, size: int | None = None) -> int:
    """Make the ext4 in an image that nothing else uses smaller, and the image with it; returns the new size in bytes.

    Without `size` as small as its content allows. Raises InvalidParameter naming `size` and the smallest possible one.
    A failure in between leaves a broken image: this is for a copy.
    """
    await check_ext4(image)
    told = await run(["resize2fs", "-P", str(image)], deadline=_TOOL_DEADLINE)
    found = _SMALLEST.search(told.text)
    if found is None:
        raise HostFailure(f"resize2fs does not say how small {image.name} can be: {told.text[:200]}")
    block = ext4_block_size(image)
    least = int(found[1]) * block
    if size is not None and size < least:
        raise InvalidParameter({"size": f"unable to shrink below {-(-least // MIB)}M: files take that"})
    blocks = least // block if size is None else size // block
    await _tool(["resize2fs", str(image), str(blocks)])
    with translated(f"shrink {image.name}"):
        os.truncate(image, blocks * block)
    # It writes nothing: what a repair cannot write, e2fsck tells nobody.
    await _tool(["e2fsck", "-f", "-n", "--", str(image)])
    return blocks * block


async def settle_ext4(image: Path) -> None:
    """Write what an image's journal still holds, if it was not unmounted: it could not be mounted to be read else.

    Nothing has it mounted. Raises HostFailure.
    """
    if not await asyncio.to_thread(is_settled, image):
        await check_ext4(image, whole=False)


def is_settled(image: Path) -> bool:
    """Whether an ext4's journal holds nothing that is not in its place yet. Raises HostFailure."""
    return not int.from_bytes(_superblock(image)[96:100], "little") & _NEEDS_RECOVERY


def ext4_block_size(image: Path) -> int:
    """Bytes of a block, as the superblock says. Raises HostFailure."""
    shift = int.from_bytes(_superblock(image)[24:28], "little")
    if shift > 6:
        raise HostFailure(f"{image.name} holds no ext4 file system")
    return 1024 << shift


def _cut_short(image: Path) -> bool:
    """Whether resize2fs has begun and not ended: the state tells of errors, and the kernel has counted none."""
    block = _superblock(image)
    state, errors = int.from_bytes(block[58:60], "little"), int.from_bytes(block[0x194:0x198], "little")
    return bool(state & _ERRORS) and errors == 0


def _superblock(image: Path) -> bytes:
    """The first part of it (the kernel's Documentation/filesystems/ext4/super.rst)."""
    with translated(f"read {image.name}"):
        descriptor = os.open(image, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            head = os.pread(descriptor, 1024, 1024)
        finally:
            os.close(descriptor)
    if head[56:58] != b"\x53\xef":
        raise HostFailure(f"{image.name} holds no ext4 file system")
    return head


async def grow_ext4(image: Path, size: int, *, checked: bool = False) -> None:
    """Grow an image and the ext4 in it, mounted or not. A repetition finishes what was interrupted.

    `checked`: it was, since it was last mounted. Raises NotSupported when the kernel lets no mounted file system grow
    (no CAP_SYS_RESOURCE), and leaves it as it was; NoSpace, RunError.
    """
    devices, target = await _settled(image)
    if target is not None:
        await asyncio.to_thread(_grow_mounted, image, devices, target, size)
        return
    if not checked:
        await check_ext4(image)  # resize2fs wants it
    with translated(f"grow {image}"):
        os.truncate(image, size)
    try:
        await _tool(["resize2fs", str(image)])
    except RunError:
        # Until it is repaired nobody can mount it; with an image that cannot be written now, the next try does it.
        with contextlib.suppress(HostFailure):
            await run(["e2fsck", "-f", "-y", "--", str(image)], deadline=_TOOL_DEADLINE, check=False)
        raise


async def _settled(image: Path) -> tuple[list[str], Path | None]:
    """The loop devices over an image and where they are mounted; neither when it is free.

    A device that was unmounted lasts while another process still looks at it, as those do that list disks: that is
    waited for. Raises HostFailure when it stays, as it does when it is mounted in another namespace.
    """
    deadline = asyncio.get_running_loop().time() + _RELEASE_DEADLINE
    while devices := await asyncio.to_thread(loop_devices, image):
        target = next((entry.target for entry in mounts() if entry.source in devices), None)
        if target is not None:
            return devices, target
        if asyncio.get_running_loop().time() > deadline:
            raise HostFailure(f"{image.name} is in use by {devices[0]}, which is not mounted here")
        await asyncio.sleep(0.02)
    return [], None


def _grow_mounted(image: Path, devices: list[str], target: Path, size: int) -> None:
    """Grow an image under its loop devices, and its file system by the kernel. Raises as grow_ext4.

    Not by resize2fs: it opens the device beside the kernel that writes it, and was seen to fail at that.
    """
    before = image.stat().st_size
    with translated(f"grow {image}"):
        _set_size(image, devices, size)
        try:
            _resize_ext4(target, size)
        except PermissionError as error:
            _set_size(image, devices, before)
            raise NotSupported(
                "this host does not let a file system grow while it is in use; stop the guest first"
            ) from error


def _set_size(image: Path, devices: list[str], size: int) -> None:
    os.truncate(image, size)
    for device in devices:
        loop.set_capacity(device)


def _resize_ext4(target: Path, size: int) -> None:
    """Let the kernel grow a mounted ext4 to that many bytes. Raises OSError."""
    descriptor = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        blocks = size // os.fstatvfs(descriptor).f_bsize
        fcntl.ioctl(descriptor, _EXT4_RESIZE, struct.pack("=Q", blocks))
    finally:
        os.close(descriptor)


async def remove_tree(path: Path, *, beyond: bool = False) -> None:
    """Remove a file or folder with all that is below it; links are removed, never followed. Gone already is fine.

    Nothing mounted in there is touched, unless it goes `beyond`: into subvolumes too.
    """
    within = [] if beyond else ["--one-file-system"]
    await run(["rm", "-rf", *within, "--", str(path)], deadline=_COPY_DEADLINE)


def make_folder(path: Path, mode: int) -> None:
    """Make a folder with its parents; the folder itself gets `mode`, also when it was there. Refuses a link."""
    with translated(f"make the folder {path}"):
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            path.mkdir(mode=mode)
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if os.fstat(descriptor).st_mode & 0o7777 != mode:
                os.fchmod(descriptor, mode)
        finally:
            os.close(descriptor)


def make_entry(folder: Path, mode: int) -> None:
    """Make a folder in one that is there, to survive power loss; one that is there already is fine. Raises OSError."""
    try:
        folder.mkdir(mode=mode)
    except FileExistsError:
        return
    sync_folder(folder.parent)


def admit_group(folder: Path, gid: int) -> None:
    """Let one group of the host pass through a folder (0710), and still no other user.

    LXC opens a container's further mounts as the container's own root, which must reach them through this folder.
    """
    with translated(f"open {folder} to group {gid}"):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.fchown(descriptor, -1, gid)
            os.fchmod(descriptor, 0o710)  # nosec B103 - a group of one guest may pass through
        finally:
            os.close(descriptor)


async def copy_tree(source: Path, target: Path) -> None:
    """Copy what a folder holds into an existing one, with owners, modes, links and extended attributes, its own too.

    Blocks are shared where that works; no link is followed. Nobody writes to the source. Raises NoSpace, RunError.
    """
    await _tool(["cp", "-a", "--reflink=auto", "--sparse=auto", "--", f"{source}/.", str(target)], _COPY_DEADLINE)


def tree_bytes(folder: Path) -> int:
    """Bytes of disk that a folder's files take, by a walk through it (du(1)). Raises HostFailure."""
    total, seen = 0, set()
    with translated(f"walk through {folder}"):
        for place, _, files in os.walk(folder, onerror=_raise):
            for status in (os.lstat(place), *(os.lstat(os.path.join(place, name)) for name in files)):
                if (status.st_dev, status.st_ino) not in seen:
                    seen.add((status.st_dev, status.st_ino))
                    total += status.st_blocks * 512
    return total


def _raise(error: OSError) -> None:
    raise error


def sync_tree(folder: Path) -> None:
    """Make everything on a folder's file system survive power loss (syncfs(2)). Raises NoSpace, HostFailure."""
    with translated(f"write {folder}"):
        try:
            syscalls.sync_filesystem(folder)
        except OSError as error:
            # A file system in a sparse image hears of a disk without room as of a broken one.
            if error.errno == errno.EIO and _outgrown(folder):
                raise OSError(errno.ENOSPC, "there is no space left for the image that holds it") from error
            raise


def _outgrown(folder: Path) -> bool:
    """Whether a folder's file system lies in an image on a disk that is full."""
    image = loop.image_below(os.stat(folder).st_dev)
    if image is None:
        return False
    figures = os.statvfs(image)
    return figures.f_bavail * figures.f_frsize < _FULL


def sync_file(path: Path) -> None:
    """Make a file's content survive power loss."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Make a folder's entries survive power loss."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def publish_file(source: Path, target: Path) -> None:
    """Give a finished file its name in one step, so that it survives power loss whole or not at all.

    Raises AlreadyExists when the name is taken; then the source is still there.
    """
    with translated(f"write {target}"):
        sync_file(source)
        try:
            os.link(source, target, follow_symlinks=False)
        except FileExistsError:
            raise AlreadyExists(f"file '{target.name}' already exists") from None
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
                raise
            # A file system without hard links (FAT, some FUSE): no way to refuse and place in one step.
            if os.path.lexists(target):
                raise AlreadyExists(f"file '{target.name}' already exists") from None
            source.rename(target)
        else:
            source.unlink()
        try:
            sync_folder(target.parent)
        except OSError:
            target.rename(source)
            raise


def replace_text(path: Path, text: str) -> None:
    """Write a small file whole or not at all; readable by its owner only. On return it survives power loss."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with translated(f"write {path}"):
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        sync_folder(path.parent)


@contextlib.contextmanager
def translated(doing: str) -> Iterator[None]:
    """Turn an OSError inside into NoSpace or HostFailure: `could not DOING: reason`."""
    try:
        yield
    except OSError as error:
        raise failure(error, doing) from error


def failure(error: OSError, doing: str) -> HostFailure:
    """The error of the tree for an OSError."""
    text = f"could not {doing}: {error.strerror or error}"
    return NoSpace(text) if error.errno in (errno.ENOSPC, errno.EDQUOT) else HostFailure(text)


async def _tool(argv: list[str], deadline: float = _TOOL_DEADLINE) -> None:
    try:
        await run(argv, deadline=deadline)
    except RunError as error:
        causes = [line for line in error.stderr.splitlines() if line.startswith(f"{argv[0]}: ")]
        # What resize2fs advises to do next comes last, and is not for the user.
        told = RunError(argv, error.code, causes[-1]) if causes and argv[0] == "resize2fs" else error
        if "No space left on device" in error.stderr or "Disk quota exceeded" in error.stderr:
            raise NoSpace(str(told)) from error
        raise told from error.__cause__
