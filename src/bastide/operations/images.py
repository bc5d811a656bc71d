"""Images, container templates and VMs' disk images: built from the host's own package sources, listed and found."""

import asyncio
import contextlib
import fcntl
import os
import re
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Literal, cast

from bastide.base.errors import AlreadyExists, BastideError, InvalidParameter, NoSpace, NotFound, NotSupported
from bastide.base.ids import Upid, VolumeId
from bastide.base.units import GIB, MIB
from bastide.host import apt, mmdebstrap, vm_image
from bastide.host.download import PUBLIC, Guard
from bastide.host.filesystems import make_folder, remove_tree
from bastide.model.access import Identity
from bastide.model.guest import Kind
from bastide.model.record import Scalar
from bastide.model.storage import Volume
from bastide.operations.catalog import Buildable, buildables, find_buildable
from bastide.operations.content import file_digest
from bastide.operations.image_pull import pull_image
from bastide.operations.image_servers import server_images
from bastide.operations.manifests import read_manifest, remove_manifest, write_manifest
from bastide.operations.rooms import Rooms
from bastide.operations.simplestreams import Image
from bastide.storage.protocol import FileStorage
from bastide.tasks.tasks import Task

CACHED_DAYS = 7
"""How long a built image is taken as fresh."""

CONTENTS: Mapping[Kind, Literal["vztmpl", "import"]] = {"lxc": "vztmpl", "qemu": "import"}
"""The content type that images for a kind of guest are kept as."""

_ROOM_TO_BUILD = {"lxc": GIB, "qemu": 3 * GIB}
_FILE_ARCHITECTURE = re.compile(r"_(amd64|arm64|armhf|i386|riscv64|s390x|ppc64el)\.", re.ASCII)


async def build_image(
    rooms: Rooms, by: Identity, name: str, storage: str = "local", *, kind: Kind = "lxc", force: bool = False
) -> Upid:
    """Build a container template or a VM's disk image, such as `debian-12`, as a task.

    One built within the last days is taken as it is unless `force`. Raises InvalidParameter for a name that the
    catalog does not know, NotSupported when the host's APT sources do not serve it.
    """
    release = find_buildable(name, kind)
    if release is None:
        known = ", ".join(one.alias for one in buildables(kind))
        raise InvalidParameter({"name": f"'{name[:60]}' is not an image that can be built; there are {known}"})
    files = await rooms.storages.files(storage, release.content)
    release.recipe([], await apt.architecture())
    sources = await asyncio.to_thread(apt.usable, release.distribution, release.version)

    async def work(task: Task) -> None:
        async with _one_build(rooms, task):
            fresh = None if force else await _fresh(files, release)
            if fresh is not None:
                task.log(f"'{fresh.volid}' was built within the last {CACHED_DAYS} days")
                return
            await _build(files, release, sources, task)

    return await rooms.tasks.start("imgbuild", release.alias, by, work)


async def _build(files: FileStorage, release: Buildable, sources: list[apt.AptSource], task: Task) -> None:
    usage = await files.usage()
    needed = _ROOM_TO_BUILD[release.kind]
    if usage.available < needed:
        raise NoSpace(f"storage '{files.config.storage}' has less than {needed // MIB} MiB left for a build")
    architecture = await apt.architecture()
    started = time.monotonic()
    name = await _free_build_name(files, release, architecture)
    target = files.incoming(name)
    task.log(f"  0% building {release.distribution} {release.version} ({release.codename}), {architecture}")
    try:
        recipe = release.recipe(sources, architecture)
        if release.kind == "qemu":
            title = f"{release.distribution.capitalize()} {release.version}"
            packages = await vm_image.build(recipe, target, task.log, title=title)
        else:
            packages = await mmdebstrap.build(recipe, target, task.log)
        size = (await asyncio.to_thread(target.stat)).st_size
        manifest = {
            "distribution": release.distribution,
            "release": release.version,
            "codename": release.codename,
            "architecture": architecture,
            "variant": release.variant,
            "built": int(time.time()),
            "sha256": await asyncio.to_thread(file_digest, target, "sha256"),
            "size": size,
            "packages": packages,
        }
        volume = await _publish(files, target, name, manifest)
    finally:
        await remove_tree(target)
    task.log(f"100% {volume.volid}: {len(packages)} packages, {size // MIB} MiB, {time.monotonic() - started:.0f} s")


async def fetch_template(rooms: Rooms, by: Identity, storage: str, template: str, *, guard: Guard = PUBLIC) -> Upid:
    """Build or download an entry of `available`, by its `template` name, as a task. Raises NotFound."""
    for one in buildables():
        if template.startswith(f"{one.package}_"):
            return await build_image(rooms, by, one.alias, storage)
    for server, image in await server_images(rooms, guard):
        if image.filename == template:
            alias = f"{server}:{image.distribution}/{image.release}/{image.variant}/{image.architecture}"
            return await pull_image(
                rooms, by, alias, storage, allow_private=guard.private, allowed_networks=guard.networks
            )
    raise NotFound(f"no such template '{template[:100]}'")


async def available(rooms: Rooms, *, guard: Guard = PUBLIC) -> list[dict[str, Scalar]]:
    """Templates that can be had, in Proxmox VE's keys: what this host can build, and what image servers offer."""
    architecture = await apt.architecture()
    entries = []
    for one in buildables():
        with contextlib.suppress(NotSupported):
            await asyncio.to_thread(apt.usable, one.distribution, one.version)
            entries.append(one.entry(architecture))
    for server, image in await server_images(rooms, guard):
        if image.architecture == architecture:
            entries.append(_entry(server, image))
    return entries


async def image_volid(rooms: Rooms, name: str, kind: Kind = "lxc") -> str | None:
    """The newest image for a kind of guest that a name means, on any storage; None when there is none.

    Names are `debian-12`, `debian/bookworm`, `images:alpine/3.20`, a file name or a volume id. A container gets a
    template with cloud-init only by a name that says so: `debian-12-cloud`.
    """
    with contextlib.suppress(InvalidParameter, NotFound):
        storage, volume_name = await rooms.storages.resolve(name)
        if volume_name.startswith(f"{CONTENTS[kind]}/"):
            return (await storage.info(volume_name)).volid
    wanted = name.rpartition(":")[2].strip("/").replace("/", "-").lower()
    release = find_buildable(name, kind)
    prefixes = {wanted, release.alias, release.package} if release else {wanted}
    architecture = await apt.architecture()
    found = []
    for volume in await _images(rooms, kind):
        file = volume.volid.rpartition("/")[2]
        if file == name:
            return volume.volid
        fits = any(file.startswith((f"{prefix}-", f"{prefix}_", f"{prefix}.")) for prefix in prefixes)
        if kind == "lxc" and "-cloud_" in file and not any("-cloud" in prefix for prefix in prefixes):
            fits = False
        others = _FILE_ARCHITECTURE.search(file)
        if fits and (others is None or others[1] == architecture):
            found.append(volume)
    newest = max(found, key=lambda volume: (volume.ctime or 0, volume.volid), default=None)
    return newest.volid if newest is not None else None


async def list_images(rooms: Rooms, kind: Kind | None = None) -> list[dict[str, Scalar]]:
    """The images on every storage that answers, with what their manifests say; newest first.

    `type` is the kind of guest they are for; `cloudinit` is 1 when cloud-init is known to be in it.
    """
    kinds: tuple[Kind, ...] = ("lxc", "qemu") if kind is None else (kind,)
    shown: list[dict[str, Scalar]] = []
    for one in kinds:
        shown += [{"type": one, **await _row(rooms, volume)} for volume in await _images(rooms, one)]
    return sorted(shown, key=lambda row: (-int(row["ctime"]), str(row["volid"])))


async def image_manifest(rooms: Rooms, volid: str) -> dict[str, Any]:
    """What is known of an image; empty for one that came from elsewhere. Raises NotFound, InvalidParameter."""
    storage, name = await rooms.storages.resolve(volid)
    return await asyncio.to_thread(read_manifest, await cast(FileStorage, storage).file_path(name))


async def has_cloud_init(rooms: Rooms, volid: str) -> bool | None:
    """Whether cloud-init is in an image; None when nothing tells. Raises NotFound, InvalidParameter."""
    return _has_cloud_init(await image_manifest(rooms, volid))


def _has_cloud_init(manifest: Mapping[str, Any]) -> bool | None:
    if isinstance(manifest.get("packages"), dict):
        return "cloud-init" in manifest["packages"]
    return True if manifest.get("variant") == "cloud" else None


async def _row(rooms: Rooms, volume: Volume) -> dict[str, Scalar]:
    volid = VolumeId.parse(volume.volid)
    entry: dict[str, Scalar] = {"volid": volume.volid, "storage": volid.storage, "size": volume.size}
    entry["name"] = volid.name.partition("/")[2]
    entry["format"] = volume.format
    entry["ctime"] = volume.ctime or 0
    manifest = await image_manifest(rooms, volume.volid)
    for key in ("distribution", "release", "codename", "architecture", "variant", "sha256", "built", "source"):
        if isinstance(manifest.get(key), (str, int)):
            entry[key] = manifest[key]
    if isinstance(manifest.get("packages"), dict):
        entry["packages"] = len(manifest["packages"])
    known = _has_cloud_init(manifest)
    return entry if known is None else {**entry, "cloudinit": int(known)}


async def _images(rooms: Rooms, kind: Kind) -> list[Volume]:
    content = CONTENTS[kind]
    found: list[Volume] = []
    for storage in await rooms.storages.all():
        if content in storage.capabilities.contents and rooms.storages.enabled(storage.config):
            with contextlib.suppress(BastideError):  # a storage that does not answer hides only its own
                found += await storage.list(content)
    return found


async def _fresh(files: FileStorage, release: Buildable) -> Volume | None:
    oldest = time.time() - CACHED_DAYS * 24 * 3600
    prefix = f"{files.config.storage}:{release.content}/{release.package}_"
    found = [volume for volume in await files.list(release.content) if volume.volid.startswith(prefix)]
    newest = max(found, key=lambda volume: volume.ctime or 0, default=None)
    return newest if newest is not None and (newest.ctime or 0) > oldest else None


async def _free_build_name(files: FileStorage, release: Buildable, architecture: str) -> str:
    taken = {volume.volid.partition(":")[2] for volume in await files.list(release.content)}
    day = time.strftime("%Y%m%d", time.gmtime())
    for count in range(1, 1000):
        version = day if count == 1 else f"{day}.{count}"
        name = f"{release.content}/{release.filename(version, architecture)}"
        if name not in taken:
            return name
    raise AlreadyExists(f"a thousand images of {release.package} of {day} already exist")


async def _publish(files: FileStorage, target: Path, name: str, manifest: Mapping[str, Any]) -> Volume:
    path = await files.file_path(name)
    await asyncio.to_thread(write_manifest, path, manifest)
    try:
        return await files.publish(target, name)
    except BaseException:
        await asyncio.to_thread(remove_manifest, path)
        raise


@contextlib.asynccontextmanager
async def _one_build(rooms: Rooms, task: Task) -> AsyncIterator[None]:
    """Builds come one after the other, whoever runs them: two would only fight for the same disk."""
    make_folder(rooms.layout.runtime, 0o755)
    descriptor = os.open(rooms.layout.runtime / "build.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        waiting = False
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not waiting:
                    task.log("waiting for another build to end")
                waiting = True
                await asyncio.sleep(0.3)
        yield
    finally:
        os.close(descriptor)


def _entry(server: str, image: Image) -> dict[str, Scalar]:
    title = f"{image.distribution.capitalize()} {image.release}"
    return {
        "package": image.package,
        "version": image.version,
        "os": f"{image.distribution}-{image.release}",
        "section": server,
        "type": "lxc",
        "architecture": image.architecture,
        "template": image.filename,
        "headline": f"{title} ({image.variant})",
        "description": f"{title} from the image server '{server}'.",
        "source": server,
        "location": image.url,
        "sha256": image.sha256,
    }
