"""systemd mount units for file systems on this machine's own disks: written, started, read and removed.

Sources: systemd.mount(5), systemd-escape(1), sd_booted(3).
"""

import configparser
import os
import re
from dataclasses import dataclass
from pathlib import Path

from bastide.base.errors import HostFailure
from bastide.host.filesystems import make_folder, replace_text, sync_folder
from bastide.host.run import run

UNITS = Path("/etc/systemd/system")
_PLAIN = re.compile(r"[A-Za-z0-9:_.]", re.ASCII)


@dataclass(frozen=True, slots=True)
class DiskMount:
    """A file system to mount: `what` is `/dev/disk/by-uuid/...`, `where` an absolute folder."""

    what: str
    where: Path
    type: str
    options: str = "defaults"


def systemd_runs() -> bool:
    """Whether systemd is this machine's init."""
    return Path("/run/systemd/system").is_dir()


def unit_name(where: Path) -> str:
    """The name that a mount unit for a folder must have: `/mnt/pve/a-b` is `mnt-pve-a\\x2db.mount`."""
    text = str(where).strip("/")
    escaped = "".join(
        "-" if char == "/" else char if _PLAIN.fullmatch(char) and (index or char != ".") else _hex(char)
        for index, char in enumerate(text)
    )
    return f"{escaped}.mount"


def _hex(char: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in char.encode())


def render(mount: DiskMount) -> str:
    """The unit's text. Raises ValueError for a value that would not stand on one line as it is."""
    for value in (mount.what, str(mount.where), mount.type, mount.options):
        if not re.fullmatch(r"[A-Za-z0-9/_.,=:-]+", value, re.ASCII):
            raise ValueError(f"{value!r} cannot stand in a unit")
    return (
        f"[Unit]\nDescription=Mount storage at {mount.where}\n\n"
        f"[Mount]\nWhat={mount.what}\nWhere={mount.where}\nType={mount.type}\nOptions={mount.options}\n\n"
        "[Install]\nWantedBy=multi-user.target\n"
    )


def parse(text: str) -> DiskMount | None:
    """Read a mount unit; None when it says not what is mounted where."""
    reader = configparser.RawConfigParser(strict=False, delimiters=("=",), interpolation=None)
    reader.optionxform = str  # type: ignore[assignment,method-assign]
    try:
        reader.read_string(text)
        section = reader["Mount"]
        return DiskMount(
            section["What"], Path(section["Where"]), section.get("Type", ""), section.get("Options", "defaults")
        )
    except (configparser.Error, KeyError, ValueError):
        return None


def listed(below: Path, units: Path = UNITS) -> list[tuple[Path, DiskMount]]:
    """The units that mount something below a folder."""
    found = []
    for path in sorted(units.glob("*.mount")) if units.is_dir() else []:
        try:
            mount = parse(path.read_text(errors="replace"))
        except OSError:
            continue
        if mount is not None and below in mount.where.parents and path.name == unit_name(mount.where):
            found.append((path, mount))
    return found


async def mount_now(mount: DiskMount) -> None:
    """Mount a file system until the next boot; the folder is made. Raises HostFailure."""
    make_folder(mount.where, 0o755)
    # Where udev does not run there are no links below /dev/disk; mount(8) looks for the UUID itself then.
    source = mount.what.replace("/dev/disk/by-uuid/", "UUID=")
    await run(["mount", "-t", mount.type, "-o", mount.options, "--", source, str(mount.where)], deadline=120)


async def install(mount: DiskMount, units: Path = UNITS) -> None:
    """Write, enable and start the unit of a mount. A repetition is fine. Raises HostFailure."""
    path = units / unit_name(mount.where)
    replace_text(path, render(mount))
    os.chmod(path, 0o644)
    sync_folder(units)
    await run(["systemctl", "daemon-reload"])
    await run(["systemctl", "enable", "--now", "--", path.name], deadline=120)


async def remove(where: Path, units: Path = UNITS) -> None:
    """Unmount, disable and remove the unit of a folder; one that is gone already is fine. Raises HostFailure."""
    path = units / unit_name(where)
    if not path.exists():
        return
    try:
        await run(["systemctl", "disable", "--now", "--", path.name], deadline=120)
    except HostFailure as error:
        raise HostFailure(f"could not unmount {where}: {error}") from error
    path.unlink(missing_ok=True)
    await run(["systemctl", "daemon-reload"])
