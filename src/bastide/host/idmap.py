"""File systems shown with mapped owners, and commands confined to a guest's id range (see `confine.py`)."""

import asyncio
import contextlib
import errno
import os
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from bastide.base.errors import HostFailure, NotSupported
from bastide.host import confine, run, syscalls
from bastide.model.backup import Tree

_SOURCE = str(Path(confine.__file__).parents[2])
_MOUNTS_AT_ONE_PLACE = 64
_HELPER = "import sys; sys.path.insert(0, sys.argv.pop(1)); from bastide.host.confine import main; main()"


def confined(
    target: Tree,
    count: int,
    argv: Sequence[str],
    *,
    writable: bool,
    source: Tree | None = None,
    prefix: int | None = None,
) -> list[str]:
    """The argument list that runs `argv` (an absolute program) as root of an id range, with `target` at `/target`.

    The range has `count` ids from `target.first_id` on. A tree that is not `writable` is shown read-only, and the
    folders that its volumes are mounted at must be there; else those that lack are made. `source` is a second tree, of
    the same ids, at `/source`, read-only. `prefix` is an inherited descriptor whose content is written to standard
    output before the program runs. It ends with the process that called this, its parent.
    """
    trees = [_shown("target", target, writable=writable)]
    if source is not None:
        trees.append(_shown("source", source))
    work = confine.Work(target.first_id, count, trees, prefix)
    return [sys.executable, "-I", "-S", "-c", _HELPER, _SOURCE, str(os.getpid()), work.to_json(), *argv]


def _shown(name: str, tree: Tree, *, writable: bool = False) -> confine.Shown:
    mounts = sorted(
        ((place, str(folder)) for place, folder in tree.mounts.items()), key=lambda item: item[0].split("/")
    )
    return confine.Shown(name, str(tree.root), mounts, writable)


def own_ids() -> int:
    """How many ids this process's user namespace has from 0 on: all but the last there can be, outside of any."""
    rows = [line.split() for line in Path("/proc/self/uid_map").read_text().splitlines()]
    return next((int(count) for first, _, count in rows if first == "0"), 1)


@asynccontextmanager
async def user_namespace(first: int, count: int) -> AsyncIterator[int]:
    """A descriptor of a new user namespace whose ids 0.. are `first`.. here. Costs a process for a few milliseconds.

    Raises NotSupported when the kernel allows none.
    """
    # cat(1) answers once it runs, and then it is in the new namespace.
    process = await run.spawn(["/usr/bin/unshare", "--user", "--", "/bin/cat"], stdin=PIPE, stdout=PIPE)
    try:
        if process.stdin is None or process.stdout is None:
            raise HostFailure("unshare has no pipes")
        process.stdin.write(b"1")
        if await process.stdout.read(1) != b"1":
            raise NotSupported("this kernel allows no user namespaces: unprivileged containers cannot run")
        for name in ("uid_map", "gid_map"):
            Path(f"/proc/{process.pid}/{name}").write_text(f"0 {first} {count}\n")
        descriptor = os.open(f"/proc/{process.pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise HostFailure(f"cannot map the ids {first} to {first + count - 1}: {error.strerror}") from error
    finally:
        with contextlib.suppress(ProcessLookupError):
            await asyncio.shield(run.kill_group(process))
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def mount_folder(source: Path, target: Path, user: int | None, options: Iterable[str] = ()) -> None:
    """Mount a folder of the host at `target`, its owners mapped by the user namespace `user` unless that is None.

    Raises NotSupported when this kernel or file system cannot map owners, HostFailure for everything else.
    """
    try:
        tree = syscalls.open_tree(source)
    except OSError as error:
        raise HostFailure(f"cannot use {source}: {error.strerror}") from error
    try:
        if user is not None:
            _map_owners(tree, source, user)
        flags = syscalls.attribute_flags(options)
        if flags:
            syscalls.mount_setattr(tree, set_flags=flags)
        syscalls.move_mount(tree, target)
    except OSError as error:
        raise HostFailure(f"cannot mount {source} at {target}: {error.strerror}") from error
    finally:
        os.close(tree)


def _map_owners(tree: int, source: Path, user: int) -> None:
    try:
        syscalls.mount_setattr(tree, user_namespace=user)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
            raise NotSupported(
                f"the file system of {source} cannot be shown with mapped owners, and its files are not shifted: "
                "create the container again on this host, or put it on ext4, xfs or btrfs"
            ) from error
        raise


async def supported(path: Path) -> bool:
    """Whether the kernel can show the file system at `path` with mapped owners. Costs a process."""
    try:
        tree = syscalls.open_tree(path)
    except OSError:
        return False
    try:
        async with user_namespace(100000, 65536) as user:
            syscalls.mount_setattr(tree, user_namespace=user)
    except (OSError, HostFailure, NotSupported):
        return False
    finally:
        os.close(tree)
    return True


def unmount_folder(target: Path) -> None:
    """Undo `mount_folder` and remove the mount point; one that is not there is fine."""
    with contextlib.suppress(OSError):
        # umount2(2) tells when nothing is mounted there: a bind mount has the device of its parent folder.
        while True:
            syscalls.unmount(target)
    with contextlib.suppress(OSError):
        target.rmdir()
