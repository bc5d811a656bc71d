"""Mount points and devices of a container: what `host/guestmounts.py` attaches before its init runs, and later."""

import os
import stat
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from bastide.base.errors import HostFailure, RunError
from bastide.guest.protocol import ContainerPlan, Mount
from bastide.host import guestmounts, run
from bastide.model.container import Device

_SOURCE = str(Path(guestmounts.__file__).parents[2])
_IMPORT = "from bastide.host.guestmounts import main; main()"
_HOT = f"import sys; sys.path.insert(0, sys.argv.pop(1)); {_IMPORT}"


def write(folder: Path, plan: ContainerPlan) -> tuple[str, ...]:
    """Write the hook program and its work to the container's folder; returns the command. Raises HostFailure."""
    work = guestmounts.Work(_first(plan), _folders(plan.mounts), _nodes(plan.config.dev))
    file = folder / "mounts.json"
    file.write_text(work.to_json())
    program = folder / "hook"
    program.touch(mode=0o600)
    program.write_text(f"import sys\nsys.argv[1:] = [{str(file)!r}]\nsys.path.insert(0, {_SOURCE!r})\n{_IMPORT}\n")
    # Named with its interpreter: Debian mounts /run without the right to run programs from it.
    return (sys.executable, "-IS", str(program))


async def attach(folder: Path, plan: ContainerPlan, mounts: Sequence[Mount], pid: int) -> None:
    """Mount further folders in the running guest whose init is `pid`. Raises HostFailure."""
    file = folder / "hot.json"
    file.write_text(guestmounts.Work(_first(plan), _folders(mounts), []).to_json())
    try:
        await run.run([sys.executable, "-I", "-S", "-c", _HOT, _SOURCE, str(file), str(pid)])
    except RunError as error:
        raise HostFailure(complaint(folder, "hot.json") or str(error)) from error
    finally:
        file.unlink(missing_ok=True)
        (folder / "hot.json.error").unlink(missing_ok=True)


def complaint(folder: Path, name: str = "mounts.json") -> str:
    """What the helper said when it failed, or nothing."""
    try:
        return (folder / f"{name}.error").read_text(errors="replace").strip()
    except OSError:
        return ""


def device_rules(devices: Mapping[int, Device]) -> list[str]:
    """Control group rules that let a guest open its devices. Raises HostFailure for a path that is none."""
    rules = []
    for device in devices.values():
        block, number = _device(device.path)
        access = "r" if device.deny_write else "rw"
        rules.append(f"{'b' if block else 'c'} {os.major(number)}:{os.minor(number)} {access}")
    return rules


def _first(plan: ContainerPlan) -> int:
    return 0 if plan.idmap is None else plan.idmap.first


def _folders(mounts: Sequence[Mount]) -> list[guestmounts.Folder]:
    # The outer one first: a folder mounted at /a would hide one at /a/b.
    ordered = sorted(mounts, key=lambda mount: mount.options.mp.count("/"))
    return [guestmounts.Folder(str(mount.source), mount.options.mp, mount.mapped, _flags(mount)) for mount in ordered]


def _flags(mount: Mount) -> list[str]:
    options = [option for option in (mount.options.mountoptions or "").split(";") if option]
    return [*options, "ro"] if mount.options.ro else options


def _nodes(devices: Mapping[int, Device]) -> list[guestmounts.Node]:
    nodes = []
    for device in devices.values():
        block, number = _device(device.path)
        mode = int(device.mode or "0660", 8)
        nodes.append(
            guestmounts.Node(
                target=device.path,
                block=block,
                major=os.major(number),
                minor=os.minor(number),
                uid=device.uid or 0,
                gid=device.gid or 0,
                mode=mode & ~0o222 if device.deny_write else mode,
            )
        )
    return nodes


def _device(path: str) -> tuple[bool, int]:
    """Whether the host's node is a block device, and its number."""
    try:
        found = os.stat(path)
    except OSError as error:
        raise HostFailure(f"cannot pass the device {path}: {error.strerror}") from None
    if not stat.S_ISBLK(found.st_mode) and not stat.S_ISCHR(found.st_mode):
        raise HostFailure(f"cannot pass {path}: it is not a device")
    return stat.S_ISBLK(found.st_mode), found.st_rdev
