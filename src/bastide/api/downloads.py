"""What comes from elsewhere: template lists and downloads, asked for with Sys.AccessNetwork."""

from typing import Annotated, Any, Literal

from pydantic import Field

from bastide.api.fields import ChecksumAlgorithm, DownloadContent, HttpUrl, NodePath, StoragePath
from bastide.api.routing import Branch, Call
from bastide.api.shapes_storage import TemplateRow, UrlMetadata
from bastide.host import download
from bastide.model.types import FileName, StorageId
from bastide.operations import content, images

_NETWORK = ("or", ("perm", "/", ("Sys.Audit", "Sys.Modify")), ("perm", "/nodes/{node}", ("Sys.AccessNetwork",)))

branch = Branch("/nodes/{node}")


class UrlQuery(NodePath):
    """A file elsewhere."""

    url: HttpUrl
    verify_certificates: Annotated[bool | None, Field(alias="verify-certificates")] = None


class TemplateDownload(NodePath):
    """A template of the list, and where to put it."""

    storage: StorageId
    template: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+@~:/-]*$", max_length=255)]


class UrlDownload(StoragePath):
    """A file elsewhere, what it is, and what it must hash to."""

    url: HttpUrl
    content: DownloadContent
    filename: FileName
    checksum: Annotated[str | None, Field(pattern=r"^[0-9A-Fa-f]{32,128}$")] = None
    checksum_algorithm: Annotated[ChecksumAlgorithm | None, Field(alias="checksum-algorithm")] = None
    verify_certificates: Annotated[bool | None, Field(alias="verify-certificates")] = None
    compression: Literal["gz", "lzo", "zst", "bz2", "xz"] | None = None


@branch.get("/query-url-metadata", UrlQuery, check=_NETWORK, answer=UrlMetadata)
async def read_url_metadata(call: Call, p: UrlQuery) -> dict[str, Any]:
    """Name, type and size of a file elsewhere, asked without fetching it."""
    guard = download.Guard(private=await call.may("/", "Sys.Modify"))
    found = await download.metadata(p.url, guard, verify=p.verify_certificates is not False)
    answer = {"filename": found.filename, "mimetype": found.mimetype, "size": found.size}
    return {key: value for key, value in answer.items() if value is not None}


@branch.get("/aplinfo", NodePath, user="all", answer=list[TemplateRow])
async def list_templates(call: Call, _p: NodePath) -> list[dict[str, Any]]:
    """The container templates that can be had."""
    return list(await images.available(call.rooms))


@branch.post("/aplinfo", TemplateDownload, check=("perm", "/storage/{storage}", ("Datastore.AllocateTemplate",)))
async def fetch_template(call: Call, p: TemplateDownload) -> str:
    """Fetch or build a container template of the list."""
    return str(await images.fetch_template(call.rooms, call.identity, p.storage, p.template))


@branch.post("/storage/{storage}/download-url", UrlDownload,
             check=("and", ("perm", "/storage/{storage}", ("Datastore.AllocateTemplate",)), _NETWORK))  # fmt: skip
async def download_url(call: Call, p: UrlDownload) -> str:
    """Download a template or image, and check what it hashes to."""
    upid = await content.download_url(
        call.rooms,
        call.identity,
        p.storage,
        p.content,
        p.filename,
        url=p.url,
        checksum=p.checksum,
        checksum_algorithm=p.checksum_algorithm,
        compression=p.compression,
        verify_certificates=p.verify_certificates is not False,
        allow_private=await call.may("/", "Sys.Modify"),
    )
    return str(upid)
