"""The drives of a VM as options name them: disks, CD-ROMs, EFI variables and TPM state (`qm.conf(5)`)."""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, ClassVar, Literal
from urllib.parse import unquote

from pydantic import AfterValidator, Field

from bastide.model.record import PropertyString, forbidden_character
from bastide.model.types import Size

DriveFormat = Literal["raw", "qcow", "qed", "qcow2", "vmdk", "cloop"]
Bus = Literal["ide", "sata", "scsi", "virtio"]
DRIVE_COUNTS: Mapping[Bus, int] = MappingProxyType({"ide": 4, "sata": 6, "scsi": 31, "virtio": 16})
"""How many drives each bus has."""

_VOLUME = re.compile(r"[A-Za-z][A-Za-z0-9._-]*:[A-Za-z0-9][A-Za-z0-9._+@~()\[\] /-]*", re.ASCII)
_SERIAL_LIMIT = 20
_MODEL_LIMIT = 40


def _file(text: str) -> str:
    """A volume id, a new volume (`STORAGE:GiB`, `STORAGE:cloudinit`), `none`, `cdrom`, or an absolute path."""
    if text in ("none", "cdrom"):
        return text
    parts = text.partition(":")[2].split("/") if not text.startswith("/") else text.split("/")
    known = text.startswith("/") or _VOLUME.fullmatch(text) is not None
    if not known or "," in text or any(part in (".", "..") for part in parts):
        raise ValueError(f"'{text[:80]}' is neither a volume (STORAGE:NAME), a new one (STORAGE:GiB), none nor a path")
    return text


def _encoded(limit: int, what: str):  # type: ignore[no-untyped-def]
    def check(text: str) -> str:
        plain = unquote(text)
        if forbidden_character(plain) is not None or not plain.isascii():
            raise ValueError(f"the {what} holds a character that a drive cannot report")
        if len(plain) > limit:
            raise ValueError(f"the {what} is longer than {limit} characters")
        return text

    return AfterValidator(check)


FileText = Annotated[str, Field(max_length=4096), AfterValidator(_file)]
_Count = Annotated[int | None, Field(ge=0)]
_Rate = Annotated[float | None, Field(ge=0)]
_Seconds = Annotated[int | None, Field(ge=1)]

_LENGTHS = {f"{unit}{side}_length": f"{unit}{side}_max_length" for unit in ("bps", "iops") for side in ("_rd", "_wr")}


class Volume(PropertyString):
    """Whatever names a volume in its `file`."""

    default_key: ClassVar[str | None] = "file"
    aliases: ClassVar[Mapping[str, str]] = MappingProxyType({"volume": "file", **_LENGTHS})

    file: FileText
    format: DriveFormat | None = None
    import_from: Annotated[FileText | None, Field(alias="import-from")] = None
    size: Size | None = None


class Drive(Volume):
    """A disk or CD-ROM, with what every bus knows. Rates are bytes, MiB or operations a second, lengths seconds."""

    aio: Literal["native", "threads", "io_uring"] | None = None
    backup: bool | None = None
    bps: _Count = None
    bps_max_length: _Seconds = None
    bps_rd: _Count = None
    bps_rd_max_length: _Seconds = None
    bps_wr: _Count = None
    bps_wr_max_length: _Seconds = None
    cache: Literal["none", "writethrough", "writeback", "unsafe", "directsync"] | None = None
    detect_zeroes: bool | None = None
    discard: Literal["ignore", "on"] | None = None
    iops: _Count = None
    iops_max: _Count = None
    iops_max_length: _Seconds = None
    iops_rd: _Count = None
    iops_rd_max: _Count = None
    iops_rd_max_length: _Seconds = None
    iops_wr: _Count = None
    iops_wr_max: _Count = None
    iops_wr_max_length: _Seconds = None
    mbps: _Rate = None
    mbps_max: _Rate = None
    mbps_rd: _Rate = None
    mbps_rd_max: _Rate = None
    mbps_wr: _Rate = None
    mbps_wr_max: _Rate = None
    media: Literal["cdrom", "disk"] | None = None
    replicate: bool | None = None
    rerror: Literal["ignore", "report", "stop"] | None = None
    serial: Annotated[str | None, Field(max_length=60), _encoded(_SERIAL_LIMIT, "serial number")] = None
    shared: bool | None = None
    snapshot: bool | None = None
    werror: Literal["enospc", "ignore", "report", "stop"] | None = None

    @property
    def is_cdrom(self) -> bool:
        """Whether its medium can be changed and is read only."""
        return self.media == "cdrom"


_Wwn = Annotated[str | None, Field(pattern=r"^0x[0-9a-fA-F]{16}$")]


class IdeDrive(Drive):
    """A drive on the IDE bus."""

    model: Annotated[str | None, Field(max_length=120), _encoded(_MODEL_LIMIT, "model")] = None
    ssd: bool | None = None
    wwn: _Wwn = None


class SataDrive(Drive):
    """A drive on an AHCI port."""

    ssd: bool | None = None
    wwn: _Wwn = None


class ScsiDrive(Drive):
    """A drive on the SCSI controller."""

    iothread: bool | None = None
    product: Annotated[str | None, Field(pattern=r"^[A-Za-z0-9\-_\s]{0,16}$")] = None
    queues: Annotated[int | None, Field(ge=2, le=1024)] = None
    ro: bool | None = None
    scsiblock: bool | None = None
    ssd: bool | None = None
    vendor: Annotated[str | None, Field(pattern=r"^[A-Za-z0-9\-_\s]{0,8}$")] = None
    wwn: _Wwn = None


class VirtioDrive(Drive):
    """A virtio block device."""

    iothread: bool | None = None
    ro: bool | None = None


class EfiDisk(Volume):
    """The volume of UEFI's variables. `pre_enrolled_keys`: they hold the usual keys, and Secure Boot is on."""

    efitype: Literal["2m", "4m"] | None = None
    ms_cert: Annotated[Literal["2011", "2023", "2023w", "2023k"] | None, Field(alias="ms-cert")] = None
    pre_enrolled_keys: Annotated[bool | None, Field(alias="pre-enrolled-keys")] = None


class TpmState(Volume):
    """The volume of a TPM's state."""

    version: Literal["v1.2", "v2.0"] | None = None


class UnusedDisk(PropertyString):
    """A volume that belongs to the guest and is attached nowhere."""

    default_key: ClassVar[str | None] = "file"
    aliases: ClassVar[Mapping[str, str]] = MappingProxyType({"volume": "file"})

    file: FileText
