"""Container templates: built from the host's own package sources, pulled from elsewhere, listed and found."""

import asyncio
import contextlib
import fcntl
import json
import os
import re
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from bastide.base.errors import AlreadyExists, BastideError, InvalidParameter, NoSpace, NotFound, NotSupported
from bastide.base.ids import Upid, VolumeId
from bastide.base.units import GIB, MIB
from bastide.host import apt, mmdebstrap
from bastide.host.download import PUBLIC, Guard, Network
from bastide.host.filesystems import make_folder, remove_tree, replace_text
from bastide.model.access import Identity
from bastide.model.record import Scalar
from bastide.model.storage import Volume
from bastide.operations.catalog import Buildable, buildables, find_buildable
from bastide.operations.content import Source, check_checksum, download_url, fetch_volume, file_digest
from bastide.operations.image_servers import find_image, server_guard, server_images
from bastide.operations.rooms import Rooms
from bastide.operations.simplestreams import Image
from bastide.storage.protocol import FileStorage
from bastide.tasks.tasks import Task

MANIFEST = ".manifest.json"
"""Suffix of what is known of a template, beside its file."""

CACHED_DAYS = 7
"""How long a built template is taken as fresh."""

_ROOM_TO_BUILD = GIB


async def build_image(rooms: Rooms, by: Identity, name: str, storage: str = "local", *, force: bool = False) -> Upid:
    """Build a container template, such as `debian-12`, as a task.

    A template built within the last days is taken as it is unless `force`. Raises InvalidParameter for a name that
    the catalog does not know, NotSupported when the host's APT sources do not serve it.
    """
    release = find_buildable(name)
    if release is None:
        known = ", ".join(f"{one.distribution}-{one.version}" for one in buildables())
        raise InvalidParameter({"name": f"'{name[:60]}' is not a template that can be built; there are {known}"})
    files = await rooms.storages.files(storage, "vztmpl")
    sources = await asyncio.to_thread(apt.usable, release.distribution, release.version)

    async def work(task: Task) -> None:
        async with _one_build(rooms, task):
            fresh = None if force else await _fresh(files, release)
            if fresh is not None:
                task.log(f"'{fresh.volid}' was built within the last {CACHED_DAYS} days")
                return
            await _build(files, release, sources, task)

    return await rooms.tasks.start("imgbuild", f"{release.distribution}-{release.version}", by, work)


async def _build(files: FileStorage, release: Buildable, sources: list[apt.AptSource], task: Task) -> None:
    usage = await files.usage()
    if usage.available < _ROOM_TO_BUILD:
        raise NoSpace(f"storage '{files.config.storage}' has less than {_ROOM_TO_BUILD // MIB} MiB left for a build")
    architecture = await apt.architecture()
    started = time.monotonic()
    name = await _free_build_name(files, release, architecture)
    target = files.incoming(name)
    task.log(f"  0% building {release.distribution} {release.version} ({release.codename}), {architecture}")
    try:
        packages = await mmdebstrap.build(release.recipe(sources, architecture), target, task.log)
        size = target.stat().st_size
        manifest = {
            "distribution": release.distribution,
            "release": release.version,
            "codename": release.codename,
            "architecture": architecture,
            "built": int(time.time()),
            "sha256": await asyncio.to_thread(file_digest, target, "sha256"),
            "size": size,
            "packages": packages,
        }
        volume = await _publish(files, target, name, manifest)
    finally:
        await remove_tree(target)
    task.log(f"100% {volume.volid}: {len(packages)} packages, {size // MIB} MiB, {time.monotonic() - started:.0f} s")


async def pull_image(
    rooms: Rooms,
    by: Identity,
    source: str,
    storage: str = "local",
    *,
    checksum: str | None = None,
    checksum_algorithm: str | None = None,
    filename: str | None = None,
    verify_certificates: bool = True,
    allow_private: bool = False,
    allowed_networks: Sequence[Network] = (),
) -> Upid:
    """Fetch a template from a URL, or from an image server by an alias such as `images:alpine/3.20`, as a task.

    Raises InvalidParameter, NotFound for an alias that no configured server has, HostFailure.
    """
    if re.match(r"https?://", source):
        return await download_url(
            rooms,
            by,
            storage,
            "vztmpl",
            filename or re.split(r"[?#]", source)[0].rpartition("/")[2],
            url=source,
            checksum=checksum,
            checksum_algorithm=checksum_algorithm,
            verify_certificates=verify_certificates,
            allow_private=allow_private,
            allowed_networks=allowed_networks,
        )
    expected = check_checksum(checksum, checksum_algorithm)
    guard = server_guard(Guard(networks=tuple(allowed_networks)))
    files = await rooms.storages.files(storage, "vztmpl")
    image = await find_image(rooms, source, guard)
    name = f"vztmpl/{filename or image.filename}"
    files.path(name)

    async def work(task: Task) -> None:
        with contextlib.suppress(NotFound):
            task.log(f"'{(await files.info(name)).volid}' is there already")
            return
        wanted = expected or ("sha256", image.sha256)
        volume = await fetch_volume(files, name, Source(image.url, wanted, verify_certificates, guard), task)
        manifest = {
            "distribution": image.distribution,
            "release": image.release,
            "architecture": image.architecture,
            "version": image.version,
            "source": image.url,
            "sha256": image.sha256,
            "size": volume.size,
        }
        await asyncio.to_thread(_write_manifest, files.path(name), manifest)

    return await rooms.tasks.start("download", re.sub(r"[^A-Za-z0-9._-]", "_", source)[:100], by, work)


async def fetch_template(rooms: Rooms, by: Identity, storage: str, template: str, *, guard: Guard = PUBLIC) -> Upid:
    """Build or download an entry of `available`, by its `template` name, as a task. Raises NotFound."""
    for one in buildables():
        if template.startswith(f"{one.package}_"):
            return await build_image(rooms, by, f"{one.distribution}-{one.version}", storage)
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


async def image_volid(rooms: Rooms, name: str) -> str | None:
    """The newest template that a name means, on any storage: `debian-12`, `debian/bookworm`, `images:alpine/3.20`,
    a file name or a volume id. None when there is none."""
    with contextlib.suppress(InvalidParameter, NotFound):
        storage, volume_name = await rooms.storages.resolve(name)
        return (await storage.info(volume_name)).volid
    wanted = name.rpartition(":")[2].strip("/").replace("/", "-").lower()
    release = find_buildable(name)
    prefixes = {wanted, f"{release.distribution}-{release.version}"} if release else {wanted}
    architecture = await apt.architecture()
    found = []
    for volume in await _templates(rooms):
        file = volume.volid.rpartition("/")[2]
        if file == name:
            return volume.volid
        fits = any(file.startswith((f"{prefix}-", f"{prefix}_")) for prefix in prefixes)
        others = re.search(r"_(amd64|arm64|armhf|i386|riscv64|s390x|ppc64el)\.tar\.", file)
        if fits and (others is None or others[1] == architecture):
            found.append(volume)
    newest = max(found, key=lambda volume: (volume.ctime or 0, volume.volid), default=None)
    return newest.volid if newest is not None else None


async def list_images(rooms: Rooms) -> list[dict[str, Scalar]]:
    """The templates on every storage that answers, with what their manifests say; newest first."""
    shown = []
    for volume in await _templates(rooms):
        volid = VolumeId.parse(volume.volid)
        entry: dict[str, Scalar] = {"volid": volume.volid, "storage": volid.storage, "size": volume.size}
        entry["name"] = volid.name.partition("/")[2]
        entry["ctime"] = volume.ctime or 0
        manifest = await image_manifest(rooms, volume.volid)
        for key in ("distribution", "release", "codename", "architecture", "sha256", "built", "source"):
            if isinstance(manifest.get(key), (str, int)):
                entry[key] = manifest[key]
        if isinstance(manifest.get("packages"), dict):
            entry["packages"] = len(manifest["packages"])
        shown.append(entry)
    return sorted(shown, key=lambda one: (-int(one["ctime"]), str(one["volid"])))


async def image_manifest(rooms: Rooms, volid: str) -> dict[str, Any]:
    """What is known of a template; empty for one that came from elsewhere. Raises NotFound, InvalidParameter."""
    storage, name = await rooms.storages.resolve(volid)
    path = cast(FileStorage, storage).path(name)
    with contextlib.suppress(OSError, ValueError):
        return dict(json.loads(path.with_name(path.name + MANIFEST).read_text()))
    return {}


async def _templates(rooms: Rooms) -> list[Volume]:
    found: list[Volume] = []
    for storage in await rooms.storages.all():
        if "vztmpl" in storage.capabilities.contents and rooms.storages.enabled(storage.config):
            with contextlib.suppress(BastideError):  # a storage that does not answer hides only its own
                found += await storage.list("vztmpl")
    return found


async def _fresh(files: FileStorage, release: Buildable) -> Volume | None:
    oldest = time.time() - CACHED_DAYS * 24 * 3600
    prefix = f"{files.config.storage}:vztmpl/{release.package}_"
    found = [volume for volume in await files.list("vztmpl") if volume.volid.startswith(prefix)]
    newest = max(found, key=lambda volume: volume.ctime or 0, default=None)
    return newest if newest is not None and (newest.ctime or 0) > oldest else None


async def _free_build_name(files: FileStorage, release: Buildable, architecture: str) -> str:
    taken = {volume.volid.partition(":")[2] for volume in await files.list("vztmpl")}
    day = time.strftime("%Y%m%d", time.gmtime())
    for count in range(1, 1000):
        version = day if count == 1 else f"{day}.{count}"
        name = f"vztmpl/{release.package}_{version}_{architecture}.tar.zst"
        if name not in taken:
            return name
    raise AlreadyExists(f"a thousand templates of {release.package} of {day} already exist")


async def _publish(files: FileStorage, target: Path, name: str, manifest: Mapping[str, Any]) -> Volume:
    path = files.path(name)
    await asyncio.to_thread(_write_manifest, path, manifest)
    try:
        return await files.publish(target, name)
    except BaseException:
        path.with_name(path.name + MANIFEST).unlink(missing_ok=True)
        raise


def _write_manifest(path: Path, manifest: Mapping[str, Any]) -> None:
    replace_text(path.with_name(path.name + MANIFEST), json.dumps(dict(manifest), indent=1, sort_keys=True) + "\n")


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
