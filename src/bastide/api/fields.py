"""Parameters that many methods share: places in the path, volumes, what a task list or a time series is asked for."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from bastide.base.errors import InvalidParameter
from bastide.base.ids import Upid, VolumeId
from bastide.model.record import Record
from bastide.model.types import Digest, NodeName, StorageId, Vmid

TimeFrame = Literal["hour", "day", "week", "month", "year"]
Consolidation = Literal["AVERAGE", "MAX"]
ChecksumAlgorithm = Literal["md5", "sha1", "sha224", "sha256", "sha384", "sha512"]
DownloadContent = Literal["iso", "vztmpl", "import"]
HttpUrl = Annotated[str, Field(pattern=r"^https?://[^\s]+$", max_length=4096)]


def _upid(text: str) -> str:
    try:
        return str(Upid.parse(text))
    except InvalidParameter as error:
        raise ValueError(error.errors["upid"]) from None


UpidText = Annotated[str, Field(max_length=512), AfterValidator(_upid)]


class NodePath(Record):
    """A method of a node."""

    node: NodeName


class GuestPath(NodePath):
    """A method of a guest."""

    vmid: Vmid


class StoragePath(NodePath):
    """A method of a storage on a node."""

    storage: StorageId


class TaskPath(NodePath):
    """A method of a task."""

    upid: UpidText


class SeriesQuery(Record):
    """Which part of a time series, and whether the means or the peaks."""

    timeframe: TimeFrame
    cf: Consolidation | None = None


class GraphQuery(SeriesQuery):
    """A picture of a time series."""

    ds: Annotated[str, Field(pattern=r"^[A-Za-z0-9_,;\s-]+$", max_length=512)]


class WithDigest(Record):
    """A change that may be refused when the configuration is newer than what the caller read."""

    digest: Digest | None = None


class FeatureQuery(GuestPath):
    """A capability of a guest."""

    feature: Literal["snapshot", "clone", "copy"]
    snapname: Annotated[str | None, Field(max_length=40)] = None


class GuestSeries(GuestPath):
    """Which part of a guest's time series."""

    timeframe: TimeFrame
    cf: Consolidation | None = None


class GuestGraph(GuestPath, GraphQuery):
    """A picture of a guest's time series."""


def volume_on(storage: str, volume: str) -> str:
    """The id of a volume on a storage, which is named with the storage before it, or without.

    Raises InvalidParameter naming `volume`.
    """
    named, colon, _ = volume.partition(":")
    if not colon or "/" in named:
        return str(VolumeId.parse(f"{storage}:{volume}"))
    if named != storage:
        raise InvalidParameter({"volume": f"storage ID mismatch ({named[:100]} != {storage})"})
    return str(VolumeId.parse(volume))
