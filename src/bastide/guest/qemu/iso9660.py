"""A small ISO 9660 image with Joliet names, for configuration drives.

The same files give the same bytes: no date of the making, no random number. Names are kept by Joliet, which Linux, the
BSDs and Windows read; those without Joliet see the ISO names, which are the same in upper case. Rock Ridge would add
owners and modes, which nobody asks of a configuration drive.

Sources: ECMA-119 (volume descriptors 8.4 and 8.5, directory records 9.1, path tables 9.4), Joliet Specification 1995.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

from bastide.base.errors import InvalidParameter

_SECTOR = 2048
_FIRST = 16  # the system area before it is empty
_DATE = bytes((80, 1, 1, 0, 0, 0, 0))  # 1 January 1980: a date that every reader takes
_LONG_DATE = b"1980010100000000\0"
_NO_DATE = b"0" * 16 + b"\0"
_NAME_LIMIT = 64  # characters of a Joliet name


@dataclass
class _Folder:
    """A folder while it is laid out: children by name, the number in path tables, extents per name space."""

    name: str
    parent: "_Folder | None" = None
    folders: dict[str, "_Folder"] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    extents: dict[bool, int] = field(default_factory=dict)
    sizes: dict[bool, int] = field(default_factory=dict)


def image(label: str, files: Mapping[str, bytes]) -> bytes:
    """The image of `files` ({path without a leading slash: contents}) on a volume named `label`.

    Raises InvalidParameter for a path or a label that the format cannot hold.
    """
    root = _tree(files)
    folders = _breadth_first(root)
    at = _FIRST + 3  # primary and Joliet volume descriptor, terminator
    tables: dict[tuple[bool, str], int] = {}
    lengths: dict[bool, int] = {}
    for joliet in (False, True):
        lengths[joliet] = len(_path_table(folders, joliet, "<"))
        for order in "<>":
            tables[joliet, order] = at
            at += _sectors(lengths[joliet])
    for joliet in (False, True):
        for folder in folders:
            folder.sizes[joliet] = _sectors(len(_records(folder, joliet, {}))) * _SECTOR
            folder.extents[joliet] = at
            at += folder.sizes[joliet] // _SECTOR
    places: dict[tuple[int, str], int] = {}
    for folder in folders:
        for name, data in folder.files.items():
            places[id(folder), name] = at
            at += _sectors(len(data))
    parts = [bytes(_FIRST * _SECTOR)]
    parts += [
        _descriptor(label, root, at, joliet=joliet, table_size=lengths[joliet], tables=tables)
        for joliet in (False, True)
    ]
    parts.append(_padded(b"\xffCD001\x01"))
    parts += [_padded(_path_table(folders, joliet, order)) for joliet, order in tables]
    parts += [_padded(_records(folder, joliet, places)) for joliet in (False, True) for folder in folders]
    parts += [_padded(data) for folder in folders for data in folder.files.values()]
    return b"".join(parts)


def _tree(files: Mapping[str, bytes]) -> _Folder:
    root = _Folder("")
    for path in sorted(files):
        *above, name = path.split("/")
        for part in (*above, name):
            if (
                not part
                or part in (".", "..")
                or len(part) > _NAME_LIMIT
                or not part.isascii()
                or not part.isprintable()
            ):
                raise InvalidParameter({"path": f"'{path[:80]}' can't be a file's name on a configuration drive"})
        folder = root
        for part in above:
            folder = folder.folders.setdefault(part, _Folder(part, folder))
        folder.files[name] = files[path]
    return root


def _breadth_first(root: _Folder) -> list[_Folder]:
    found = [root]
    for folder in found:
        found.extend(folder.folders.values())
    return found


def _encoded(name: str, joliet: bool, *, file: bool = False) -> bytes:
    if joliet:
        return name.encode("utf-16-be")
    return name.upper().encode() + (b";1" if file else b"")


def _record(identifier: bytes, extent: int, size: int, *, folder: bool) -> bytes:
    padding = b"" if len(identifier) % 2 else b"\0"
    length = 33 + len(identifier) + len(padding)
    fields = struct.pack("<BBI", length, 0, extent) + struct.pack(">I", extent) + struct.pack("<I", size)
    fields += struct.pack(">I", size) + _DATE + struct.pack("<BBBHB", 2 if folder else 0, 0, 0, 1, 0)
    return fields + b"\x01" + bytes([len(identifier)]) + identifier + padding


def _records(folder: _Folder, joliet: bool, places: Mapping[tuple[int, str], int]) -> bytes:
    above = folder.parent or folder
    entries = [
        _record(name, one.extents.get(joliet, 0), one.sizes.get(joliet, 0), folder=True)
        for name, one in ((b"\0", folder), (b"\1", above))
    ]
    named = [
        (
            _encoded(name, joliet),
            _record(_encoded(name, joliet), one.extents.get(joliet, 0), one.sizes.get(joliet, 0), folder=True),
        )
        for name, one in folder.folders.items()
    ]
    for name, data in folder.files.items():
        identifier = _encoded(name, joliet, file=True)
        named.append((identifier, _record(identifier, places.get((id(folder), name), 0), len(data), folder=False)))
    entries += [record for _, record in sorted(named)]
    sectors = [b""]
    for record in entries:
        if len(sectors[-1]) + len(record) > _SECTOR:  # a record never crosses a sector's end
            sectors[-1] = _padded(sectors[-1])
            sectors.append(b"")
        sectors[-1] += record
    return b"".join(sectors)


def _path_table(folders: list[_Folder], joliet: bool, order: str) -> bytes:
    numbers = {id(folder): number for number, folder in enumerate(folders, 1)}
    table = b""
    for folder in folders:
        name = _encoded(folder.name, joliet) or b"\0"
        above = numbers[id(folder.parent or folder)]
        table += struct.pack(f"{order}BBIH", len(name), 0, folder.extents.get(joliet, 0), above)
        table += name + (b"\0" if len(name) % 2 else b"")
    return table


def _descriptor(
    label: str, root: _Folder, sectors: int, *, joliet: bool, table_size: int, tables: Mapping[tuple[bool, str], int]
) -> bytes:
    def text(value: str, size: int) -> bytes:
        encoded = value.encode("utf-16-be" if joliet else "ascii")
        if len(encoded) > size or not value.isprintable():
            raise InvalidParameter({"label": f"'{value[:40]}' can't be the name of a volume"})
        blank = b"\0 " if joliet else b" "
        return (encoded + blank * size)[:size]

    def both(form: str, value: int) -> bytes:
        return struct.pack(f"<{form}", value) + struct.pack(f">{form}", value)

    data = bytes([2 if joliet else 1]) + b"CD001\x01\0" + text("", 32) + text(label, 32) + bytes(8)
    data += both("I", sectors) + (b"%/E" if joliet else b"").ljust(32, b"\0")  # UCS-2, level 3
    data += both("H", 1) + both("H", 1) + both("H", _SECTOR) + both("I", table_size)
    data += struct.pack("<II", tables[joliet, "<"], 0) + struct.pack(">II", tables[joliet, ">"], 0)
    data += _record(b"\0", root.extents[joliet], root.sizes[joliet], folder=True)
    data += text("", 128) * 4 + text("", 37) * 3
    data += _LONG_DATE * 2 + _NO_DATE + _LONG_DATE + b"\x01\0"
    return _padded(data)


def _sectors(size: int) -> int:
    return -(-size // _SECTOR)


def _padded(data: bytes) -> bytes:
    return data.ljust(_sectors(len(data)) * _SECTOR, b"\0")
