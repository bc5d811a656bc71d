"""iSCSI targets: what a portal offers, logging in and out, and the disks that come of it.

Sources: iscsiadm(8) for the command lines and what it prints; /sys/class/iscsi_session and the kernel's tree of
SCSI devices, `host:channel:id:lun` each.
"""

import contextlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bastide.base.errors import RunError
from bastide.host.network_mounts import bracketed
from bastide.host.run import run

_PORTAL = re.compile(r"(\S+?)(?:,(?:\d+|-1))?")
_SESSION = re.compile(r"\S+: \[(\d+)\] (\S+?),-?\d+ (\S+)(?: \(.*\))?")
_ADDRESS = re.compile(r"\d+:(\d+):(\d+):(\d+)", re.ASCII)
_DEADLINE = 30.0
_NO_SESSIONS = 21
_NO_RECORDS = 21
_PRESENT = 15
_DISK = "0"
_UP = "LOGGED_IN"
_SECTOR = 512


@dataclass(frozen=True, slots=True)
class Target:
    """A target at a portal (`address:port`)."""

    portal: str
    target: str


@dataclass(frozen=True, slots=True)
class Lun:
    """A disk of a target: `channel.id.lun.NAME`, NAME being the one below /dev/disk/by-id, and its size in bytes."""

    name: str
    path: Path
    size: int


def discovery(portal: str) -> list[str]:
    """The command line that asks a portal for its targets."""
    return ["iscsiadm", "--mode", "discovery", "--type", "sendtargets", "--portal", _portal(portal)]


def login(portal: str, target: str) -> list[str]:
    """The command line that logs in to a discovered target."""
    return ["iscsiadm", "--mode", "node", "--targetname", target, "--portal", _portal(portal), "--login"]


def logout(target: str) -> list[str]:
    """The command line that logs out of a target at every portal."""
    return ["iscsiadm", "--mode", "node", "--targetname", target, "--logout"]


def parse_targets(text: str) -> list[Target]:
    """Read lines such as `192.0.2.1:3260,1 iqn.2003-01.org.example:disk`; others are left out."""
    found = []
    for line in text.splitlines():
        portal, _, target = line.strip().partition(" ")
        if target and " " not in target and (match := _PORTAL.fullmatch(portal)):
            found.append(Target(match[1], target))
    return found


def parse_sessions(text: str) -> dict[int, Target]:
    """Read lines such as `tcp: [1] 192.0.2.1:3260,1 iqn... (non-flash)`: {number of the session: its target}."""
    matches = (_SESSION.fullmatch(line.strip()) for line in text.splitlines())
    return {int(match[1]): Target(match[2], match[3]) for match in matches if match is not None}


async def targets(portal: str) -> list[Target]:
    """What a portal offers. Raises RunError, NotSupported, DeadlineExceeded."""
    return parse_targets((await run(discovery(portal), deadline=_DEADLINE)).text)


async def sessions() -> dict[int, Target]:
    """Which targets this host is logged in to."""
    done = await run(["iscsiadm", "--mode", "session"], deadline=_DEADLINE, check=False)
    return parse_sessions(done.text) if done.code != _NO_SESSIONS else {}


async def attach(portal: str, target: str) -> None:
    """Log in to a target, or look for new disks where that is done. Raises RunError."""
    for number, session in (await sessions()).items():
        if session.target == target:
            await run(["iscsiadm", "--mode", "session", "--sid", str(number), "--rescan"], deadline=_DEADLINE)
            return
    await run(discovery(portal), deadline=_DEADLINE)
    try:
        await run(login(portal, target), deadline=_DEADLINE)
    except RunError as error:
        if error.code != _PRESENT:
            raise


async def detach(target: str) -> None:
    """Log out of a target; none that is logged in to is fine. Raises RunError."""
    try:
        await run(logout(target), deadline=_DEADLINE)
    except RunError as error:
        if error.code not in (_NO_RECORDS, _NO_SESSIONS):
            raise


def answers(target: str, sysfs: Path = Path("/sys")) -> bool:
    """Whether a session with a target is up; the kernel finds out within some seconds that a target is silent."""
    sessions = (sysfs / "class/iscsi_session").glob("session*")
    return any((_line(one / "targetname"), _line(one / "state")) == (target, _UP) for one in sessions)


def luns(target: str, sysfs: Path = Path("/sys"), by_id: Path = Path("/dev/disk/by-id")) -> Sequence[Lun]:
    """The disks of a target that this host is logged in to, by name; those without a lasting name are left out."""
    names = _lasting_names(by_id)
    found: dict[str, Lun] = {}
    for session in sorted((sysfs / "class/iscsi_session").glob("session*")):
        if _line(session / "targetname") != target:
            continue
        for device in (session / "device").glob("target*/*:*:*:*"):
            address = _ADDRESS.fullmatch(device.name)
            if address is None or _line(device / "type") != _DISK:
                continue
            for block in (device / "block").glob("*"):
                name = names.get(block.name)
                size = _line(block / "size")
                if name is not None and size.isdigit():
                    text = f"{address[1]}.{address[2]}.{address[3]}.{name}"
                    found[text] = Lun(text, by_id / name, int(size) * _SECTOR)
    return [found[name] for name in sorted(found)]


def _lasting_names(by_id: Path) -> dict[str, str]:
    names: dict[str, str] = {}
    links = [*by_id.glob("wwn-*"), *by_id.glob("scsi-*")]
    for link in sorted(links, key=lambda link: (link.name.startswith("scsi-"), link.name)):
        with contextlib.suppress(OSError):
            if "-part" not in link.name:
                names[link.readlink().name] = link.name
    return names


def _portal(portal: str) -> str:
    host, colon, port = portal.rpartition(":")
    return portal if colon and port.isdigit() and (":" not in host or host.endswith("]")) else bracketed(portal)


def _line(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
