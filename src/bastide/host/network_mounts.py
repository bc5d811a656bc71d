"""File systems of other machines: NFS, SMB and CephFS mounted and unmounted; their command lines are pure functions.

Whatever the user's options say, nothing on a share is a device or runs setuid: ours come last and so win. Nothing here
looks into a mounted folder, which may hang for as long as its server is away.
Sources: nfs(5), mount.cifs(8), mount.ceph(8), ceph-fuse(8), umount(8).
"""

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bastide.base.errors import BastideError, DeadlineExceeded, NotSupported, RunError, WrongState
from bastide.host import filesystems
from bastide.host.filesystems import MountEntry
from bastide.host.run import run

FIXED = ("nosuid", "nodev")
"""What every share is mounted with."""

_MOUNT_DEADLINE = 60.0
_UNMOUNT_DEADLINE = 4.0


@dataclass(frozen=True, slots=True)
class CephPlace:
    """A folder of a CephFS. Without `monitors` the tools read /etc/ceph/ceph.conf; `secret` holds the bare key."""

    monitors: tuple[str, ...] = ()
    subdir: str = ""
    user: str = "admin"
    filesystem: str | None = None
    secret: Path | None = None


def bracketed(server: str) -> str:
    """A host as it stands in front of a port or path: an IPv6 address in brackets."""
    return f"[{server}]" if ":" in server and not server.startswith("[") else server


def nfs_source(server: str, export: str) -> str:
    """`server:/export`."""
    return f"{bracketed(server)}:{export}"


def cifs_source(server: str, share: str, subdir: str | None = None) -> str:
    """`//server/share/subdir`; mount.cifs resolves the server as it stands, an IPv6 address without brackets."""
    below = subdir.strip("/") if subdir else ""
    return f"//{server.strip('[]')}/{share}" + (f"/{below}" if below else "")


def nfs(source: str, target: Path, options: str | None = None) -> list[str]:
    """The command line that mounts an NFS export; `soft` or `hard` (the default) is among the options.

    The daemon tries again by itself, so the tool need not (`retry`, in minutes).
    """
    return ["mount.nfs", source, str(target), "-o", _joined(["retry=0", *_split(options)])]


def cifs(
    source: str,
    target: Path,
    credentials: Path | None,
    *,
    username: str | None = None,
    domain: str | None = None,
    version: str | None = None,
    options: str | None = None,
) -> list[str]:
    """The command line that mounts an SMB share; the password stands in the file `credentials` alone."""
    chosen = [f"username={username}"] if username else ["guest", "username=guest"]
    chosen += [f"credentials={credentials}"] if credentials is not None else [] if not username else ["password="]
    chosen += [f"domain={domain}"] if domain else []
    chosen += [f"vers={version}"] if version not in (None, "default") else []
    chosen += ["file_mode=0600", "dir_mode=0700", *_split(options)]
    return ["mount.cifs", source, str(target), "-o", _joined(chosen)]


def ceph(place: CephPlace, target: Path, options: str | None = None) -> list[str]:
    """The command line that mounts a CephFS by the kernel's client."""
    source = ",".join(place.monitors) + f":/{place.subdir.strip('/')}"
    chosen = [f"name={place.user}"]
    chosen += [f"secretfile={place.secret}"] if place.secret is not None else []
    chosen += [f"fs={place.filesystem}"] if place.filesystem else []
    return ["mount.ceph", source, str(target), "-o", _joined([*chosen, *_split(options)])]


def ceph_fuse(place: CephPlace, target: Path, options: str | None = None) -> list[str]:
    """The command line that mounts a CephFS by the client in user space, which goes on in the background."""
    argv = ["ceph-fuse", "--id", place.user, "--client_mountpoint", f"/{place.subdir.strip('/')}"]
    argv += ["-m", ",".join(place.monitors)] if place.monitors else []
    argv += ["--keyfile", str(place.secret)] if place.secret is not None else []
    argv += ["--client_fs", place.filesystem] if place.filesystem else []
    return [*argv, str(target), "-o", _joined(_split(options))]


def mounted(target: Path) -> MountEntry | None:
    """What is mounted on a folder, told without a look into it. Links above it are resolved, it is none itself."""
    real = Path(os.path.realpath(target.parent)) / target.name
    return next((entry for entry in reversed(filesystems.mounts()) if entry.target == real), None)


async def mount(argv: Sequence[str]) -> None:
    """Run a command line of the above. Raises RunError, NotSupported, DeadlineExceeded."""
    try:
        await run(argv, deadline=_MOUNT_DEADLINE)
    except RunError as error:
        if "unknown filesystem type" in error.stderr or "No such device" in error.stderr:
            raise NotSupported(f"this host's kernel has no file system for {argv[0]}") from error
        raise


async def unmount(target: Path, *, away: bool = False) -> None:
    """Unmount a folder within seconds. Raises WrongState while it is in use.

    One whose server is `away`, or found to be, is taken out of the tree at once and goes when the last one that waits
    for it has gone.
    """
    try:
        await run(["umount", "--no-canonicalize", "--", str(target)], deadline=_UNMOUNT_DEADLINE)
    except (DeadlineExceeded, RunError) as error:
        if isinstance(error, RunError) and not (away and "busy" in error.stderr):
            return _explain(target, error)
        # Not by the file system's own umount.nfs or the like, which asks the server.
        options = ["--no-canonicalize", "--internal-only", "--lazy"]
        await run(["umount", *options, "--", str(target)], deadline=_UNMOUNT_DEADLINE)


def _explain(target: Path, error: RunError) -> None:
    if mounted(target) is None:
        return
    if "busy" in error.stderr:
        raise WrongState(f"{target} is in use on this host") from error
    raise error


async def tidy(folder: Path, known: frozenset[str]) -> None:
    """Unmount what lies directly below a folder under a name that is not known any more."""
    real = Path(os.path.realpath(folder))
    for entry in filesystems.mounts():
        if entry.target.parent == real and entry.target.name not in known:
            with contextlib.suppress(BastideError):
                await unmount(entry.target)


def _split(options: str | None) -> list[str]:
    return options.split(",") if options else []


def _joined(options: Sequence[str]) -> str:
    return ",".join([*options, *FIXED])
