"""Fuzzed: names, sizes, property strings, guests' options and configurations, documents that people write."""

from collections.abc import Callable, Iterator
from datetime import UTC
from typing import Any

from pydantic import TypeAdapter, ValidationError

from bastide.access.authority import normalize_path
from bastide.architect.comparison import confinement
from bastide.architect.entries import parse_entry
from bastide.backup.calendar import CalendarEvent, from_start_time, next_after
from bastide.backup.config_text import config_text, parse_config_text
from bastide.base import propstring, units
from bastide.base.errors import BastideError, HostFailure, InvalidParameter
from bastide.base.ids import Upid, VolumeId
from bastide.host.download import check_url
from bastide.model import documents, types
from bastide.model.backup import BackupName
from bastide.model.backup_options import BackupJob
from bastide.model.container import ContainerConfig, ContainerOptions
from bastide.model.guest import Kind
from bastide.model.homelab import Homelab
from bastide.model.placement import PlacementProblem
from bastide.model.record import PropertyString, Record
from bastide.model.service import Service
from bastide.model.storage import StorageConfig
from bastide.model.vm import VmConfig, VmOptions
from bastide.operations.execute import command_of
from bastide.operations.volumes import parse_request
from bastide.storage import below, block_names, names
from fuzz.registry import again, split, target, text

_TYPES = [
    TypeAdapter(getattr(types, name))
    for name in ("Vmid", "NodeName", "StorageId", "VolumeIdText", "ArchiveText", "DnsName", "DnsNames", "PublicKeys",
                 "Addresses", "Ipv4", "Ipv6", "Ipv4Setting", "Ipv6Setting", "HardwareAddress", "Size", "Tags",
                 "FileName", "InterfaceName", "PoolId", "ConfigKeys", "Digest", "UserId", "TokenName")
]  # fmt: skip


def _all(kind: type[Any]) -> Iterator[type[Any]]:
    for child in kind.__subclasses__():
        if not child.__name__.startswith("_"):
            yield child
        yield from _all(child)


_PROPERTIES: list[type[Any]] = sorted(_all(PropertyString), key=lambda kind: (kind.__module__, kind.__name__))


@target("upid", InvalidParameter)
def upid(data: bytes) -> None:
    """Task ids."""
    again(Upid.parse, text(data))


@target("volume-id", InvalidParameter)
def volume_id(data: bytes) -> None:
    """Volume ids."""
    found = again(VolumeId.parse, text(data))
    assert ".." not in found.name.split("/")


@target("size", ValueError)
def size(data: bytes) -> None:
    """Sizes."""
    again(units.parse_size, text(data), units.format_size)


@target("property-string", ValueError)
def property_string(data: bytes) -> None:
    """The codec of property strings, with a default key and without."""
    which, rest = split(data)
    default = "volume" if which % 2 else None
    found = propstring.parse(text(rest), default)
    if default not in found and "" not in found.values():
        assert propstring.parse(propstring.render(found, default), default) == found


@target("property-records", ValidationError)
def property_records(data: bytes) -> None:
    """Each kind of property string: a network device, a drive, a CPU ..."""
    which, rest = split(data)
    kind = _PROPERTIES[which % len(_PROPERTIES)]
    again(kind.model_validate, text(rest))


@target("types", ValidationError)
def api_types(data: bytes) -> None:
    """Each type of a parameter: addresses, names, tags, user ids ..."""
    which, rest = split(data)
    kind = _TYPES[which % len(_TYPES)]
    again(kind.validate_python, text(rest), str)


def _options(kind: type[Record]) -> Callable[[bytes], None]:
    def run(data: bytes) -> None:
        pairs = (line.partition("=") for line in text(data).split("\n"))
        record = kind.parse({key: value for key, _, value in pairs})
        assert kind.parse(record.to_text()) == record

    return run


for _name, _kind in {
    "ct-options": ContainerOptions, "vm-options": VmOptions, "ct-record": ContainerConfig, "vm-record": VmConfig,
    "storage-options": StorageConfig, "backup-job": BackupJob,
}.items():  # fmt: skip
    target(_name, InvalidParameter)(_options(_kind))


def _config(kind: Kind) -> Callable[[bytes], None]:
    def run(data: bytes) -> None:
        parsed = parse_config_text(text(data), kind)
        shown = config_text(parsed.options, parsed.drives)
        assert config_text(parse_config_text(shown, kind).options, parsed.drives) == shown
        assert len(parsed.warnings) <= 21

    return run


target("ct-config", InvalidParameter)(_config("lxc"))
target("vm-config", InvalidParameter)(_config("qemu"))


@target("calendar", InvalidParameter)
def calendar(data: bytes) -> None:
    """Calendar events, and when they are due."""
    event = CalendarEvent.parse(text(data))
    assert (next_after(event, 1_800_000_000, UTC) or 1_800_000_001) > 1_800_000_000


@target("start-time", InvalidParameter)
def start_time(data: bytes) -> None:
    """The older form of a schedule: a time and days."""
    first, _, days = text(data).partition(" ")
    CalendarEvent.parse(from_start_time(first, days or None))


@target("backup-name", InvalidParameter)
def backup_name(data: bytes) -> None:
    """Names of backups."""
    again(BackupName.parse, text(data))


@target("volume-name", InvalidParameter)
def volume_name(data: bytes) -> None:
    """Names of volumes in folders."""
    found = names.parse_name(text(data))
    assert names.parse_name(found.text) == found
    assert ".." not in found.text.split("/")
    names.backup_name(found.text)


@target("block-name", InvalidParameter)
def block_name(data: bytes) -> None:
    """Names of volumes in block storages."""
    which, rest = split(data)
    style = list(block_names._NAMES)[which % len(block_names._NAMES)]
    found = block_names.parse_name(text(rest), style)
    assert block_names.parse_name(found.text, style) == found


@target("below", HostFailure)
def builds_on(data: bytes) -> None:
    """The file that says what a volume builds on."""
    again(below.Below.parse, text(data), lambda found: found.to_text() or "")


@target("new-volume")
def new_volume(data: bytes) -> None:
    """A wish for a new volume: `local:8`."""
    parse_request(text(data))


@target("url", InvalidParameter)
def url(data: bytes) -> None:
    """Addresses to download from."""
    assert check_url(text(data)).isascii()


@target("access-path")
def access_path(data: bytes) -> None:
    """Paths of the access tree."""
    found = normalize_path(text(data))
    assert found is None or normalize_path(found) == found


@target("command", InvalidParameter)
def command(data: bytes) -> None:
    """A command for a guest with its variables."""
    words = text(data).split("\n")
    command_of(words[:2], words[2:], words[0] or None, tty=True)


def _document(kind: type[Record]) -> Callable[[bytes], None]:
    return lambda data: documents.parse(text(data), kind)


target("plan", InvalidParameter)(_document(Homelab))
target("service", InvalidParameter)(_document(Service))
target("placement", InvalidParameter)(_document(PlacementProblem))


@target("catalog", BastideError)
def catalog(data: bytes) -> None:
    """Entries of the catalog, which users may add to."""
    parse_entry.__wrapped__(text(data), "entry.yaml")  # what it has read it keeps


@target("proc-status", ValueError, LookupError)
def proc_status(data: bytes) -> None:
    """The kernel's view of a process that the comparison of kinds shows."""
    status, _, mapping = text(data).partition("\n\n")
    confinement(status, mapping, None)
