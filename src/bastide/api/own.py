"""`/bastide`: what Proxmox VE's API does not have: guests by name, the daemon itself, images."""

import asyncio
import os
from dataclasses import asdict
from typing import Annotated, Any

from pydantic import Field

from bastide.api.execute import GuestName
from bastide.api.fields import ChecksumAlgorithm
from bastide.api.lists import find_guest, guests_seen, index, storages_seen
from bastide.api.routing import Branch, Call, NoParameters
from bastide.api.shapes_guests import GuestAddresses, NamedGuest
from bastide.api.shapes_nodes import DaemonStatus
from bastide.api.shapes_storage import BuildableRow, ImageRow, StorageMeans
from bastide.base.errors import InvalidParameter, PermissionDenied
from bastide.host import programs
from bastide.model.guest import Guest, GuestState, Kind
from bastide.model.record import Record
from bastide.model.storage import TYPES
from bastide.model.types import StorageId, Vmid, split_list
from bastide.operations import catalog, image_pull, images, rescan, storages
from bastide.operations.addresses import addresses

branch = Branch("/bastide")

_TEMPLATES = ("perm", "/storage/{storage}", ("Datastore.AllocateTemplate",))
_IMAGE_NAME = Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+:/-]*$")]


class GuestQuery(Record):
    """A guest by its vmid or its name."""

    guest: GuestName


class ImagesQuery(Record):
    """With a name (`debian-12`, `debian/12`, a file name, a volume id): the one image that it means, if any.

    `type` is the kind of guest that images are for. Without one, a name means a container's template before it means a
    VM's disk image.
    """

    name: _IMAGE_NAME | None = None
    type: Kind | None = None


class BuildableQuery(Record):
    """With a name (`debian-12`, `debian/12`, `bookworm`): what it means, if anything."""

    name: _IMAGE_NAME | None = None


class ImageBuild(Record):
    """A distribution's release such as `debian-12`, the kind of guest it is for, and the storage for the image."""

    name: _IMAGE_NAME
    kind: Kind = "lxc"
    storage: StorageId = "local"
    force: bool = False


class ImagePull(Record):
    """A URL, or an alias on an image server, and what the file must hash to.

    `kind` is the kind of guest it is for; without one the name in a URL tells, and an alias is a container's template.
    """

    source: Annotated[str, Field(min_length=1, max_length=4096, pattern=r"^[!-~]+$")]
    kind: Kind | None = None
    storage: StorageId = "local"
    checksum: Annotated[str | None, Field(pattern=r"^[0-9A-Fa-f]{32,128}$")] = None
    checksum_algorithm: Annotated[ChecksumAlgorithm | None, Field(alias="checksum-algorithm")] = None


class StorageName(Record):
    """A storage."""

    storage: StorageId


class Rescan(Record):
    """One guest, else all; `dry-run` changes nothing."""

    vmid: Vmid | None = None
    dry_run: Annotated[bool, Field(alias="dry-run")] = False


@branch.get("", NoParameters, user="all")
async def read_index(_call: Call, _p: NoParameters) -> list[dict[str, str]]:
    """Index."""
    return index(
        "name",
        "audit",
        "backup",
        "events",
        "guests",
        "images",
        "records",
        "rescan",
        "status",
        "storage",
        "storage-types",
        "tasks",
    )


@branch.get("/status", NoParameters, user="all", answer=DaemonStatus)
async def read_status(call: Call, _p: NoParameters) -> dict[str, Any]:
    """The daemon: its version, where it answers, and how many guests the caller may see.

    `accelerator` is how VMs run here; without KVM, `emulation` says why not.
    """
    services = call.services
    accelerator, why = call.rooms.vms.accelerator
    guests = await guests_seen(call)
    running = call.rooms.engines.running()
    return {
        "version": services.version,
        "node": services.node,
        "address": services.address,
        "port": services.port,
        "bridge": services.bridge,
        "pid": os.getpid(),
        "started": int(services.started),
        "guests": {"total": len(guests), "running": sum(guest.vmid in running for guest in guests)},
        "accelerator": accelerator,
        **({"emulation": why} if accelerator == "tcg" and why is not None else {}),
    }


@branch.get("/storage", NoParameters, user="all", answer=list[StorageMeans])
async def list_storages(call: Call, _p: NoParameters) -> list[dict[str, Any]]:
    """What each storage that the caller may see can do for guests.

    `copy-on-write`: by what means guests share what they were made of, missing where they get copies. `lacks`: what
    is not installed on the host, so that it stays inactive.
    """
    rows = []
    for storage in await storages_seen(call):
        means = storage.capabilities.copy_on_write
        row = {"storage": storage.config.storage, "type": storage.config.type}
        lacks = " ".join(programs.lacking(storage.programs))
        row |= {"lacks": lacks} if lacks else {}
        rows.append(row | ({"copy-on-write": means} if means is not None else {}))
    return rows


@branch.get("/storage-types", NoParameters, user="all")
async def list_storage_types(call: Call, _p: NoParameters) -> list[dict[str, Any]]:
    """The types of storages that can be added: the options that each needs and may have, and what it can hold.

    `fixed` options cannot change later, `secrets` are never shown, `default` is its content when nobody says. `lacks`
    names programs that are not installed on the host, without which such a storage stays inactive.
    """
    lacks = {name: " ".join(programs.lacking(call.rooms.storages.programs_of(name))) for name in TYPES}
    return [
        {
            "type": name,
            "needed": sorted(keys.needed),
            "optional": sorted(keys.keys - keys.needed),
            "fixed": sorted(keys.unchangeable),
            "secrets": sorted(keys.secrets),
            "content": sorted(keys.contents),
            "default": split_list(keys.default),
            "shared": int(keys.shared),
            **({"lacks": lacks[name]} if lacks[name] else {}),
        }
        for name, keys in TYPES.items()
    ]


@branch.get("/storage/{storage}/key", StorageName, user="all", allow_token=False)
async def read_key(call: Call, p: StorageName) -> dict[str, str]:
    """The key of a storage's backups, to be kept where the storage is not; its passphrase opens it. For root alone."""
    if not call.is_root:
        raise PermissionDenied("Permission check failed (user != root@pam)")
    return {"encryption-key": await storages.export_key(call.rooms, p.storage)}


@branch.post("/rescan", Rescan, check=("perm", "/vms", ("VM.Config.Disk",)))
async def rescan_volumes(call: Call, p: Rescan) -> list[dict[str, Any]]:
    """Make volumes that no record names `unused[n]` of the guest in their names, and correct sizes in records.

    Rows of `what` (`unused`, `size`, or `problem` for what could not be looked at), `vmid`, `key`, `volume`, and the
    sizes in bytes `before` and `after`.
    """
    owner = call.identity.userid
    found = await rescan.rescan(call.rooms, owner, p.vmid, dry_run=p.dry_run)
    return [{key: value for key, value in asdict(row).items() if value is not None} for row in found]


@branch.get("/guests", NoParameters, user="all", answer=list[GuestAddresses])
async def list_guests(call: Call, _p: NoParameters) -> list[dict[str, Any]]:
    """The guests that the caller may see, whether they start with the host, and the addresses of those that run."""
    guests = await guests_seen(call)
    found = await asyncio.gather(*(addresses(call.rooms, guest) for guest in guests))
    return [
        {**_row(call, guest), "onboot": int(guest.config.get("onboot", 0)), "addresses": texts}
        for guest, texts in zip(guests, found, strict=True)
    ]


@branch.get("/guests/{guest}", GuestQuery, user="all", answer=NamedGuest)
async def read_guest(call: Call, p: GuestQuery) -> dict[str, Any]:
    """A guest by its vmid or its name."""
    guest = await find_guest(call, p.guest)
    await call.require(f"/vms/{guest.vmid}", "VM.Audit")
    return _row(call, guest)


@branch.get("/guests/{guest}/addresses", GuestQuery, user="all")
async def read_addresses(call: Call, p: GuestQuery) -> list[str]:
    """What a guest can be reached by, IPv4 first; empty when it does not run or nobody knows. Takes up to 5 seconds."""
    guest = await find_guest(call, p.guest)
    await call.require(f"/vms/{guest.vmid}", "VM.Audit")
    return await addresses(call.rooms, guest)


@branch.get("/images", ImagesQuery, user="all", answer=list[ImageRow])
async def list_images(call: Call, p: ImagesQuery) -> list[dict[str, Any]]:
    """The images on the storages that the caller may look into, newest first.

    `type` is the kind of guest an image is for, `alias` the distribution and release, such as `debian-12`, where they
    are known, `cloudinit` whether cloud-init is in it.
    """
    rows: list[dict[str, Any]] = []
    wanted = None if p.name is None else await _named(call, p.name, p.type)
    for image in await images.list_images(call.rooms, p.type):
        place = f"/storage/{image['storage']}"
        if not await call.may(place, "Datastore.Audit", "Datastore.AllocateSpace", any_of=True):
            continue
        if p.name is not None and image["volid"] != wanted:
            continue
        rows.append({**image, **_alias(image)})
    return rows


@branch.get("/images/buildable", BuildableQuery, user="all", answer=list[BuildableRow])
async def list_buildable(_call: Call, p: BuildableQuery) -> list[dict[str, Any]]:
    """The images that a host can build where its package sources have them, by the kind of guest they are for."""
    kinds: tuple[Kind, ...] = ("lxc", "qemu")
    if p.name is None:
        return [{"name": one.alias, "type": kind} for kind in kinds for one in catalog.buildables(kind)]
    found = [catalog.find_buildable(p.name, kind) for kind in kinds]
    return [{"name": one.alias, "type": one.kind} for one in found if one is not None]


@branch.post("/images/build", ImageBuild, check=_TEMPLATES)
async def build_image(call: Call, p: ImageBuild) -> str:
    """Build a container template or a VM's disk image from this host's own package sources, as a task."""
    upid = await images.build_image(call.rooms, call.identity, p.name, p.storage, kind=p.kind, force=p.force)
    return str(upid)


@branch.post("/images/pull", ImagePull, check=_TEMPLATES)
async def pull_image(call: Call, p: ImagePull) -> str:
    """Fetch a container template or a VM's disk image from a URL or an image server, as a task."""
    may_modify = await call.may("/", "Sys.Modify")
    if not may_modify:
        await call.require(f"/nodes/{call.rooms.node}", "Sys.AccessNetwork")
    if (p.checksum is None) != (p.checksum_algorithm is None):
        raise InvalidParameter({"checksum": "'checksum' and 'checksum-algorithm' belong together"})
    upid = await image_pull.pull_image(
        call.rooms,
        call.identity,
        p.source,
        p.storage,
        kind=p.kind or image_pull.kind_of(p.source),
        checksum=p.checksum,
        checksum_algorithm=p.checksum_algorithm,
        allow_private=may_modify,
    )
    return str(upid)


async def _named(call: Call, name: str, kind: Kind | None) -> str | None:
    if kind is not None:
        return await images.image_volid(call.rooms, name, kind)
    return await images.image_volid(call.rooms, name) or await images.image_volid(call.rooms, name, "qemu")


def _alias(image: dict[str, Any]) -> dict[str, str]:
    if "distribution" not in image or "release" not in image:
        return {}
    cloud = "-cloud" if image["type"] == "lxc" and image.get("variant") == "cloud" else ""
    return {"alias": f"{image['distribution']}-{image['release']}{cloud}"}


def _row(call: Call, guest: Guest) -> dict[str, Any]:
    state = call.rooms.engine(guest).state(guest.vmid)
    return {
        "vmid": guest.vmid,
        "name": guest.name,
        "node": guest.node,
        "type": guest.kind,
        "status": "stopped" if state is GuestState.STOPPED else "running",
    }
