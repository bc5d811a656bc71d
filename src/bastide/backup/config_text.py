"""A guest's record as the text that Proxmox VE keeps in backups (`pct.conf(5)`, `qm.conf(5)`), and back.

Lines `key: value`, sorted; before them the description, each line of it behind `#`, percent-encoded; behind them, for
VMs, which device of the VMA stream was which drive: `#qmdump#map:scsi0:drive-scsi0:local-lvm:raw:`. What is read comes
from anybody: it is data, and nothing that it names is looked up.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from urllib.parse import quote, unquote

from bastide.base.errors import InvalidParameter
from bastide.base.units import MIB
from bastide.model.container import ContainerConfig
from bastide.model.guest import Kind
from bastide.model.record import Multiline, Record, Scalar, forbidden_character
from bastide.model.vm import VmConfig

MAX_SIZE = MIB
"""Bytes that a guest's configuration may have."""

_MAX_LINES = 20_000
_MAX_WARNINGS = 20
_SHOWN = 60
_RECORDS: Mapping[Kind, type[Record]] = {"lxc": ContainerConfig, "qemu": VmConfig}
# What was true of the guest at that time and place alone.
_PASSING = re.compile(
    r"lock|parent|digest|snapstate|snaptime|vmstate|runningmachine|runningcpu|running-nets-host-mtu|unused\d+", re.ASCII
)
_OPTION = re.compile(r"([A-Za-z][A-Za-z0-9_-]*):[ \t]*(.*)", re.ASCII)
_RAW = re.compile(r"(lxc\.[A-Za-z0-9_.-]+)[ \t]*[:=][ \t]*(.*)", re.ASCII)
_SECTION = re.compile(r"\[[^\]]*\]", re.ASCII)
_MAP = re.compile(r"#qmdump#map:([a-z]+\d+):([A-Za-z0-9_.-]{1,64}):([A-Za-z0-9._-]*):([a-z0-9]*):", re.ASCII)
# PVE::Tools encodes what is not printable ASCII, `%` and `:`.
_PLAIN = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) not in "%:")
_SEPARATED = Multiline("\0")


@dataclass(frozen=True, slots=True)
class SavedDrive:
    """Where a drive's data is in a VMA stream (`device`: `drive-scsi0`), and the storage and format that it had."""

    device: str
    storage: str = ""
    format: str = ""


@dataclass(frozen=True, slots=True)
class ParsedConfig:
    """What a backup says of its guest.

    `options` hold what the record of its kind takes, each for itself; `description` is one of them. Volumes that they
    name are a stranger's: their sizes and options count, never their names. `drives` is {drive's key: where it is}.
    `raw` are lines for LXC itself, (`lxc.cgroup2.devices.allow`, value), in their order. `dropped` says why something
    of it is left out: {key, or `line 7`: reason}.
    """

    options: Mapping[str, str]
    drives: Mapping[str, SavedDrive] = field(default_factory=dict)
    raw: Sequence[tuple[str, str]] = ()
    dropped: Mapping[str, str] = field(default_factory=dict)

    @property
    def warnings(self) -> list[str]:
        """Sentences that tell what is left out, some at most."""
        told = [f"ignoring '{key}' of the backup's configuration: {why}" for key, why in self.dropped.items()]
        if len(told) > _MAX_WARNINGS:
            told[_MAX_WARNINGS:] = [f"ignoring {len(told) - _MAX_WARNINGS} more lines of the backup's configuration"]
        return told


def config_text(config: Mapping[str, Scalar], drives: Mapping[str, SavedDrive] = MappingProxyType({})) -> str:
    """The text of a record's configuration, its description before the options; `drives` for a VM's backup as VMA.

    Locks, unused volumes and what a snapshot or a suspension left are no part of it. Raises InvalidParameter that names
    a key whose value a line cannot hold.
    """
    lines = [f"#{_encoded(line)}" for line in str(config.get("description", "")).rstrip().split("\n")]
    if lines == ["#"]:
        lines = []
    for key in sorted(config):
        if key == "description" or _PASSING.fullmatch(key):
            continue
        value = config[key]
        text = str(int(value) if isinstance(value, float) and value.is_integer() else value)
        if _OPTION.fullmatch(f"{key}:") is None:
            raise InvalidParameter({key[:_SHOWN]: "this cannot be the name of an option"})
        if (char := _forbidden(key, text)) is not None:
            raise InvalidParameter({key: f"control character {char} cannot stand in a configuration"})
        lines.append(f"{key}: {text}")
    lines += [
        f"#qmdump#map:{key}:{drive.device}:{drive.storage}:{drive.format}:" for key, drive in sorted(drives.items())
    ]
    return "".join(f"{line}\n" for line in lines)


def parse_config_text(text: str, kind: Kind) -> ParsedConfig:
    """Read a guest's configuration: what is in force, without snapshots and pending changes.

    Raises InvalidParameter naming `config` for more than 1 MiB or 20 000 lines, and for control characters.
    """
    if len(text) > MAX_SIZE or len(text.encode(errors="replace")) > MAX_SIZE:
        raise InvalidParameter({"config": "the guest's configuration is larger than 1 MiB"})
    lines = text.split("\n", _MAX_LINES + 1)
    if len(lines) > _MAX_LINES + 1:
        raise InvalidParameter({"config": f"the guest's configuration has more than {_MAX_LINES} lines"})
    reader = _Reader(kind)
    for number, line in enumerate(lines, 1):
        if not reader.take(number, line.rstrip(" \t\r")):
            break
    return reader.result()


class _Reader:
    """Takes one line after the other up to the first section."""

    def __init__(self, kind: Kind) -> None:
        self._kind: Kind = kind
        self._description: list[str] = []
        self._found: dict[str, str] = {}
        self._drives: dict[str, SavedDrive] = {}
        self._raw: list[tuple[str, str]] = []
        self._dropped: dict[str, str] = {}

    def take(self, number: int, line: str) -> bool:
        """Whether what follows counts, too."""
        char = _forbidden(line.partition(":")[0], line)
        if char is not None:
            raise InvalidParameter({"config": f"line {number} holds the control character {char}"})
        if _SECTION.fullmatch(line):
            return False
        if line.startswith("#"):
            self._comment(line)
        elif self._kind == "lxc" and (raw := _RAW.fullmatch(line)):
            self._raw.append((raw[1], raw[2]))
        elif option := _OPTION.fullmatch(line):
            self._option(option[1], option[2])
        elif line:
            self._dropped[f"line {number}"] = f"'{line[:_SHOWN]}' is not `option: value`"
        return True

    def _comment(self, line: str) -> None:
        if self._kind == "qemu" and line.startswith(("#qmdump#", "#vzdump#")):
            if found := _MAP.fullmatch(line):
                self._drives[found[1]] = SavedDrive(found[2], found[3], found[4])
        else:
            self._description.append(unquote(line[1:], errors="replace"))

    def _option(self, key: str, value: str) -> None:
        if key == "description":  # an older form
            self._description.append(unquote(value, errors="replace"))
        elif not _PASSING.fullmatch(key):
            self._found[key] = value

    def result(self) -> ParsedConfig:
        """What the lines hold, with what the record does not take left out."""
        if description := "\n".join(self._description).rstrip():
            self._found["description"] = description
        options = {}
        record = _RECORDS[self._kind]
        for key, value in self._found.items():
            if not record.knows(key):
                self._dropped[key[:_SHOWN]] = "no option of this kind of guest"
                continue
            try:
                record.parse({key: value})
            except InvalidParameter as error:
                self._dropped[key] = "; ".join(error.errors.values())
            else:
                options[key] = value
        return ParsedConfig(options, self._drives, self._raw, self._dropped)


def _encoded(line: str) -> str:
    text = quote(line, safe=_PLAIN)
    # A description must not be taken for a note of vzdump's own.
    return f"%{ord(text[0]):02X}{text[1:]}" if text.startswith(("qmdump#", "vzdump#")) else text


def _forbidden(key: str, text: str) -> str | None:
    """The first character that a line cannot hold; a container's `env` separates its variables by NUL."""
    return forbidden_character(text.replace("\t", " "), _SEPARATED if key == "env" else None)
