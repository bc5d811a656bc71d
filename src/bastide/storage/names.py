"""Volume names and where they lie: Proxmox VE's folder layout of a directory storage.

`vztmpl/FILE`, `iso/FILE`, `backup/FILE`, `snippets/FILE`, `import/FILE` are plain files; `VMID/vm-VMID-disk-N.FORMAT`
is a guest's disk or file system, `VMID/base-VMID-disk-N.FORMAT` one that is a base, `BASE/VMID/vm-VMID-disk-N.FORMAT` a
linked clone of it. Where a volume lies is told by the last two parts.
"""

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bastide.base.errors import InvalidParameter
from bastide.model.backup import BackupName
from bastide.model.storage import Content, DiskFormat, VolumeFormat

FOLDERS: dict[Content, str] = {
    "vztmpl": "template/cache",
    "iso": "template/iso",
    "backup": "dump",
    "snippets": "snippets",
    "import": "import",
    "images": "images",
    "rootdir": "images",
}
"""The folder of each content type, below the storage's path."""

FILE_CONTENTS: frozenset[Content] = frozenset({"vztmpl", "iso", "backup", "snippets", "import"})
"""Contents that are plain files with a name of their own."""

_TARBALLS: dict[str, VolumeFormat] = {".tar.gz": "tgz", ".tar.xz": "txz", ".tar.zst": "tzst", ".tar.bz2": "tbz"}
_BACKUPS: dict[str, VolumeFormat] = {
    ".tar.gz": "tar.gz", ".tar.lzo": "tar.lzo", ".tar.zst": "tar.zst", ".tar": "tar", ".tgz": "tgz",
    ".vma.gz": "vma.gz", ".vma.lzo": "vma.lzo", ".vma.zst": "vma.zst", ".vma": "vma",
    ".tar.xz": "txz", ".tar.bz2": "tbz",
}  # fmt: skip
_SUFFIXES: dict[Content, dict[str, VolumeFormat]] = {
    "vztmpl": _TARBALLS,
    "backup": _BACKUPS,
    "iso": {".iso": "iso", ".img": "iso"},
    "import": {".qcow2": "qcow2", ".raw": "raw", ".img": "raw", ".vmdk": "vmdk", ".vdi": "vdi", ".vhdx": "vhdx"},
}
_FILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+@~()-]{0,254}", re.ASCII)
_BASE = r"[1-9]\d{2,8}/base-[1-9]\d{2,8}-disk-\d{1,5}\.(?:raw|subvol|qcow2|vmdk)"
_DISK = re.compile(
    rf"(?:(?P<base>{_BASE})/)?(?P<vmid>[1-9]\d{{2,8}})/(?P<kind>vm|base)-(?P=vmid)-[A-Za-z0-9_-]+"
    r"\.(?P<format>raw|subvol|qcow2|vmdk)",
    re.ASCII,
)
_BACKUP = re.compile(r"vzdump-(?:lxc|qemu)-([1-9]\d{2,8})-", re.ASCII)
SIDECARS = (".notes", ".protected", ".size", ".base", ".manifest.json", ".sha256")
"""Suffixes of what is kept beside a volume: its notes, its protection, its size, what it builds on, what a template
consists of, its checksum."""


@dataclass(frozen=True, slots=True)
class VolumeName:
    """A checked volume name: its content type (`rootdir` for file systems), format, relative path and guest.

    `base` is the name of the volume that it is a linked clone of; `is_base` says that others may be of it.
    """

    text: str
    content: Content
    format: VolumeFormat
    relative: str
    vmid: int | None
    base: str | None = None
    is_base: bool = False

    @property
    def place(self) -> str:
        """The name without the bases before it: where the volume lies."""
        return "/".join(self.text.split("/")[-2:])


def parse_name(text: str) -> VolumeName:
    """Check a volume name. Raises InvalidParameter naming `volume`."""
    disk = _DISK.fullmatch(text)
    if disk is not None:
        form: VolumeFormat = disk["format"]  # type: ignore[assignment]  # the expression admits formats only
        content: Content = "rootdir" if form == "subvol" else "images"
        place = "/".join(text.split("/")[-2:])
        return VolumeName(
            text, content, form, f"images/{place}", int(disk["vmid"]), disk["base"], disk["kind"] == "base"
        )
    kind, _, file = text.partition("/")
    if kind in FILE_CONTENTS and _FILE.fullmatch(file) and not file.endswith(SIDECARS):
        known: Content = kind
        found = file_format(known, file)
        if found is not None:
            backup = _BACKUP.match(file) if known == "backup" else None
            return VolumeName(text, known, found, f"{FOLDERS[known]}/{file}", int(backup[1]) if backup else None)
    raise InvalidParameter({"volume": f"unable to parse directory volume name '{text[:200]}'"})


def file_format(content: Content, file: str) -> VolumeFormat | None:
    """The format that a file's suffix says, or None when that content type does not have it."""
    if content == "snippets":
        return "snippet"
    for suffix, form in _SUFFIXES.get(content, {}).items():
        if file.endswith(suffix) and len(file) > len(suffix):
            return form
    return None


def backup_name(name: str) -> BackupName | None:
    """What the name of a backup tells; None for another volume's, and for a backup that has been renamed."""
    try:
        return BackupName.parse(name) if name.startswith("backup/") else None
    except InvalidParameter:
        return None


def log_path(archive: Path) -> Path | None:
    """Where the log of a backup lies, None beside one that has been renamed."""
    known = backup_name(f"backup/{archive.name}")
    return archive.with_name(f"{known.stem}.log") if known is not None else None


def disk_name(vmid: int, label: int | str, form: DiskFormat) -> str:
    """`100/vm-100-disk-0.qcow2` for a number, `100/vm-100-cloudinit.raw` for a word. Raises InvalidParameter."""
    name = f"{vmid}/vm-{vmid}-{label if isinstance(label, str) else f'disk-{label}'}.{form}"
    return parse_disk_name(name).text


def base_name(text: str) -> str:
    """The name that a guest's volume gets as a base: `100/base-100-disk-0.qcow2`. A base's is its own."""
    parsed = parse_name(text)
    return parsed.text if parsed.is_base else parsed.place.replace("/vm-", "/base-", 1)


def clone_name(base: str, vmid: int, number: int, form: VolumeFormat | None = None) -> str:
    """The name of a linked clone: `100/base-100-disk-0.qcow2/101/vm-101-disk-0.qcow2`. Raises InvalidParameter."""
    parsed = parse_name(base)
    return parse_name(f"{parsed.place}/{vmid}/vm-{vmid}-disk-{number}.{form or parsed.format}").text


def parse_disk_name(text: str) -> VolumeName:
    """Check the name of a VM's disk. Raises InvalidParameter naming `volume`."""
    parsed = parse_name(text)
    if parsed.content != "images":
        raise InvalidParameter({"volume": f"'{text[:200]}' is not a disk of a VM"})
    return parsed


def folders(changed: Mapping[str, str]) -> dict[Content, str]:
    """The folder of each content type where some are configured (`content-dirs`); disks and file systems share one."""
    known = {content: changed.get(content, folder) for content, folder in FOLDERS.items()}
    return {**known, "rootdir": known["images"]}


def folders_problem(changed: Mapping[str, str]) -> str | None:
    """Why content types cannot have these folders, or None: each needs one of its own."""
    named = sorted(tuple(folder.split("/")) for content, folder in folders(changed).items() if content != "rootdir")
    for before, after in itertools.pairwise(named):
        if after[: len(before)] == before:
            return f"the folders '{'/'.join(before)}' and '{'/'.join(after)}' of two content types lie in each other"
    return None


def suffixes(content: Content) -> tuple[str, ...]:
    """The file name endings that a content type knows; empty when any will do."""
    return tuple(_SUFFIXES.get(content, {}))
