"""Single files out of backups: a folder's list, and the download of a file or a folder."""

import base64
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any
from urllib.parse import quote

from pydantic import Field
from starlette.responses import Response, StreamingResponse

from bastide.api.allowed import Watched
from bastide.api.backup_permissions import open_backup
from bastide.api.fields import StoragePath, volume_on
from bastide.api.routing import Branch, Call
from bastide.api.shapes_storage import FileRow
from bastide.api.volume_permissions import check_volume
from bastide.base.errors import InvalidParameter, NotFound
from bastide.operations.backup import files
from bastide.operations.backup.archives import Archive

branch = Branch("/nodes/{node}/storage")


class InBackup(StoragePath):
    """A place in a backup, its path in base64: `/` is the beginning."""

    volume: Annotated[str, Field(min_length=1, max_length=512)]
    filepath: Annotated[str, Field(min_length=1, max_length=8192)]


class FromBackup(InBackup):
    """A file or folder of a backup; a folder is packed as ZIP, with `tar` as a tar stream."""

    tar: bool = False


@branch.get("/{storage}/file-restore/list", InBackup, user="all", answer=list[FileRow])
async def list_in_backup(call: Call, p: InBackup) -> list[dict[str, Any]]:
    """A folder of a backup; of a VM the first level is the file systems of its disks."""
    archive = await _archive(call, p)
    with _by_filepath():
        entries = await files.list_folder(call.rooms, archive, _path(p))
    return [
        {
            "filepath": base64.b64encode(entry.path.encode()).decode(),
            "text": entry.name,
            "type": entry.type,
            "leaf": entry.type not in ("d", "v"),
        }
        | {key: value for key, value in (("size", entry.size), ("mtime", entry.mtime)) if value is not None}
        for entry in entries
    ]


@branch.get("/{storage}/file-restore/download", FromBackup, user="all", event="read")
async def download_from_backup(call: Call, p: FromBackup) -> Response:
    """Fetch a file or a folder of a backup."""
    archive = await _archive(call, p)
    with _by_filepath():
        found = await files.fetch(call.rooms, archive, _path(p), "tar" if p.tar else "zip")
    # A stranger's file is never shown in the browser as if it were this host's page.
    headers = {
        "content-disposition": f"attachment; filename*=UTF-8''{quote(found.name, safe='')}",
        "cache-control": "no-store",
    }
    headers |= {} if found.size is None else {"content-length": str(found.size)}
    answer = StreamingResponse(_closing(found.parts), media_type=found.media_type, headers=headers)
    return Watched(call, lambda: check_volume(call, volume_on(p.storage, p.volume)), answer)


async def _closing(parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The parts; whoever goes away early ends what makes them."""
    try:
        async for part in parts:
            yield part
    finally:
        close = getattr(parts, "aclose", None)
        if close is not None:
            with contextlib.suppress(RuntimeError):
                await close()


async def _archive(call: Call, p: InBackup) -> Archive:
    """The backup that is meant. Raises PermissionDenied, InvalidParameter."""
    return await open_backup(call, "volume", volume_on(p.storage, p.volume))


@contextlib.contextmanager
def _by_filepath() -> Iterator[None]:
    """While entered, what is not in the backup is told by the parameter that names it."""
    try:
        yield
    except NotFound as error:
        raise InvalidParameter({"filepath": str(error)}) from None


def _path(p: InBackup) -> str:
    try:
        return base64.b64decode(p.filepath, validate=True).decode()
    except ValueError:
        raise InvalidParameter({"filepath": "it has to be a path in base64"}) from None
