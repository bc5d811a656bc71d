"""Names of volumes that are block devices, as Proxmox VE has them.

`vm-100-disk-0` is a guest's volume, `base-100-disk-0` one that is a base. Where the technology ties a linked clone to
its base, the clone is `base-100-disk-0/vm-101-disk-0`. A container's file system on ZFS is a dataset and no device:
`subvol-100-disk-0`, `basevol-100-disk-0`.
"""

import re
from dataclasses import dataclass
from typing import Literal

from bastide.base.errors import InvalidParameter
from bastide.model.storage import VolumeFormat

Style = Literal["plain", "linked", "zfs"]
"""Names of LVM, of RBD and of ZFS."""

_LABEL = r"[A-Za-z0-9][A-Za-z0-9_-]{0,79}"
_KINDS: dict[Style, tuple[str, str]] = {
    "plain": ("vm|base", ""),
    "linked": ("vm|base", "base"),
    "zfs": ("vm|base|subvol|basevol", "base|basevol"),
}
_SNAPSHOT_OF = re.compile(r"(?:vm|base|subvol|basevol)-[1-9]\d{2,8}-(?:disk-\d{1,5}|cloudinit)", re.ASCII)
_BASES = {"vm": "base", "subvol": "basevol"}


def _expression(style: Style) -> re.Pattern[str]:
    kinds, bases = _KINDS[style]
    front = rf"(?:(?P<base>(?:{bases})-[1-9]\d{{2,8}}-{_LABEL})/)?" if bases else "(?P<base>(?!))?"
    return re.compile(rf"{front}(?P<piece>(?P<kind>{kinds})-(?P<vmid>[1-9]\d{{2,8}})-{_LABEL})", re.ASCII)


_NAMES: dict[Style, re.Pattern[str]] = {"plain": _expression("plain"), "linked": _expression("linked"),
                                        "zfs": _expression("zfs")}  # fmt: skip


@dataclass(frozen=True, slots=True)
class BlockName:
    """A checked name. `piece` is what the technology calls the volume, `base` the piece that it is a clone of."""

    text: str
    piece: str
    vmid: int
    kind: str
    base: str | None = None

    @property
    def is_base(self) -> bool:
        """Whether it is a base, which nothing writes to."""
        return self.kind in ("base", "basevol")

    @property
    def format(self) -> VolumeFormat:
        """`subvol` for a dataset that holds files, `raw` for a device."""
        return "subvol" if self.kind in ("subvol", "basevol") else "raw"


def parse_name(text: str, style: Style) -> BlockName:
    """Check a volume's name. Raises InvalidParameter naming `volume`."""
    found = _NAMES[style].fullmatch(text)
    if found is None:
        raise InvalidParameter({"volume": f"unable to parse volume name '{text[:200]}'"})
    return BlockName(text, found["piece"], int(found["vmid"]), found["kind"], found["base"])


def name_of(piece: str, origin: str | None, style: Style) -> BlockName | None:
    """The name of a piece of storage that clones `origin`; None for what is no volume of ours."""
    base = _NAMES[style].fullmatch(origin) if origin is not None and style != "plain" else None
    found = _NAMES[style].fullmatch(piece)
    if found is None or found["base"] is not None:
        return None
    tied = base is not None and base["kind"] in ("base", "basevol")
    return parse_name(f"{origin}/{piece}" if tied else piece, style)


def disk_name(vmid: int, label: int | str, style: Style) -> str:
    """`vm-100-disk-0` for a number, `vm-100-cloudinit` for a word. Raises InvalidParameter."""
    return parse_name(f"vm-{vmid}-{label if isinstance(label, str) else f'disk-{label}'}", style).text


def base_name(name: BlockName) -> str:
    """The name that a volume gets as a base; a base's is its own."""
    if name.is_base:
        return name.text
    piece = f"{_BASES[name.kind]}{name.piece.removeprefix(name.kind)}"
    return piece if name.base is None else f"{name.base}/{piece}"


def clone_name(base: BlockName, vmid: int, number: int, style: Style) -> str:
    """The name of a linked clone. Raises InvalidParameter when `base` is none."""
    if not base.is_base:
        raise InvalidParameter({"volume": f"'{base.text}' is not a base"})
    piece = f"{'subvol' if base.format == 'subvol' else 'vm'}-{vmid}-disk-{number}"
    return parse_name(piece if style == "plain" else f"{base.piece}/{piece}", style).text


def check_snapshot_of(piece: str) -> None:
    """Refuse a volume whose name and a snapshot's could not be told apart where both make up one name.

    Raises InvalidParameter.
    """
    if _SNAPSHOT_OF.fullmatch(piece) is None:
        raise InvalidParameter({"volume": f"'{piece}' cannot have snapshots"})
