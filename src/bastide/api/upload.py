"""`POST /nodes/{node}/storage/{storage}/upload`: a file into a storage, streamed to its disk while it arrives."""

import asyncio
import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, BinaryIO

from pydantic import Field

from bastide.api import parameters
from bastide.api.allowed import while_allowed
from bastide.api.fields import ChecksumAlgorithm, DownloadContent, StoragePath
from bastide.api.multipart import Sink, read_upload
from bastide.api.routing import Branch, Call, NotBuilt
from bastide.base.errors import HostFailure, NoSpace
from bastide.model.types import FileName
from bastide.operations import content

_CHUNK = 1024 * 1024
_PRIVILEGE = "Datastore.AllocateTemplate"

branch = Branch("/nodes/{node}/storage/{storage}/upload")


class Upload(StoragePath):
    """What the fields before the file say; `filename` is the file field's."""

    content: DownloadContent
    filename: FileName
    checksum: Annotated[str | None, Field(pattern=r"^[0-9A-Fa-f]{32,128}$")] = None
    checksum_algorithm: Annotated[ChecksumAlgorithm | None, Field(alias="checksum-algorithm")] = None
    tmpfilename: Annotated[str | None, Field(max_length=512), NotBuilt()] = None


@branch.post("", StoragePath, raw=True, body=Upload,
             check=("perm", "/storage/{storage}", (_PRIVILEGE,)))  # fmt: skip
async def upload(call: Call, p: StoragePath) -> str:
    """Upload a template, an ISO image or a disk image, and check what it hashes to."""
    spool = _Spool(call, p)
    try:
        reading = read_upload(call.request.headers.get("content-type", ""), call.request.stream(), spool.open)
        await while_allowed(call, lambda: call.require(f"/storage/{p.storage}", _PRIVILEGE), reading)
    except BaseException:
        spool.discard()
        raise
    asked = spool.asked
    upid = await content.upload(
        call.rooms,
        call.identity,
        p.storage,
        asked.content,
        asked.filename,
        spooled=spool.path,
        checksum=asked.checksum,
        checksum_algorithm=asked.checksum_algorithm,
    )
    return str(upid)


class _Spool:
    """The file on the storage that the upload is written to."""

    asked: Upload
    path: Path

    def __init__(self, call: Call, p: StoragePath) -> None:
        self._call = call
        self._place = {"node": p.node, "storage": p.storage}
        self._file: BinaryIO | None = None
        self._waiting = bytearray()

    async def open(self, fields: list[tuple[str, str]], filename: str) -> Sink:
        """Check what the fields say before the file's bytes are taken."""
        values = parameters.merge(self._place, [*fields, ("filename", filename)])
        self.asked = parameters.parse(Upload, values)
        self._call.values.update(values)
        content.check_checksum(self.asked.checksum, self.asked.checksum_algorithm)
        self.path = await content.upload_path(
            self._call.rooms, self._place["storage"], self.asked.content, self.asked.filename
        )
        with _disk_errors():
            self._file = self.path.open("xb", buffering=0)
        return self._take

    def discard(self) -> None:
        """Leave nothing of a broken upload."""
        if self._file is not None:
            self._file.close()
            self.path.unlink(missing_ok=True)

    async def _take(self, data: bytes) -> None:
        if self._file is None:
            raise RuntimeError("the upload's file is not open")
        self._waiting += data
        if len(self._waiting) >= _CHUNK or (not data and self._waiting):
            with _disk_errors():
                await asyncio.to_thread(self._write, bytes(self._waiting))
            self._waiting.clear()
        if not data:
            self._file.close()

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view and self._file is not None:
            view = view[self._file.write(view) :]


@contextmanager
def _disk_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpace("the storage is full: the upload was not kept") from error
        raise HostFailure(f"the upload could not be written: {error.strerror}") from error
