"""Ceph's block devices: the command lines of rbd(8) and ceph(8), and what they report.

Images are mapped by the kernel, for VMs and containers alike. A key is named by its file, never in an argument list.

Sources: rbd(8), rbdmap(8), ceph(8), the Ceph documentation on block devices (snapshots, layering).
"""

import asyncio
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bastide.base.errors import AlreadyExists, BastideError, HostFailure, NoSpace, NotFound, RunError, WrongState
from bastide.host.run import Runner, finished, run

_MIB = 1024 * 1024
_DEADLINE = 24 * 3600.0
_PATIENCE = (0.1, 0.3, 0.6)


@dataclass(frozen=True, slots=True)
class Image:
    """An image: bytes, and the image of the same pool that it is a clone of."""

    name: str
    size: int
    parent: str | None = None


def parse_images(text: str, pool: str) -> list[Image]:
    """Read a pool's `rbd ls --long --format json`, without its snapshots. Raises HostFailure."""
    found = []
    for row in _rows(text, "rbd ls"):
        if "snapshot" in row:
            continue
        parent = row.get("parent")
        try:
            base = str(parent["image"]) if parent and parent["pool"] == pool else None
            found.append(Image(str(row["image"]), int(row["size"]), base))
        except (KeyError, TypeError, ValueError) as error:
            raise HostFailure(f"rbd ls could not be understood: {error}") from error
    return found


def parse_snapshots(text: str) -> list[str]:
    """The names in `rbd snap ls --format json`, oldest first. Raises HostFailure."""
    try:
        return [str(row["name"]) for row in sorted(_rows(text, "rbd snap ls"), key=lambda row: int(row["id"]))]
    except (KeyError, TypeError, ValueError) as error:
        raise HostFailure(f"rbd snap ls could not be understood: {error}") from error


def parse_mapped(text: str) -> list[tuple[str, str, str, str, str]]:
    """(pool, namespace, image, snapshot or `-`, device) of `rbd device list --format json`. Raises HostFailure."""
    try:
        return [
            (row["pool"], row.get("namespace") or "", row["name"], row["snap"], row["device"])
            for row in _rows(text, "rbd device list")
        ]
    except KeyError as error:
        raise HostFailure(f"rbd device list could not be understood: {error}") from error


def parse_space(text: str, pool: str) -> tuple[int, int]:
    """Bytes stored and free of a pool in `ceph df --format json`. Raises HostFailure, NotFound."""
    try:
        for row in json.loads(text)["pools"]:
            if row["name"] == pool:
                return int(row["stats"]["stored"]), int(row["stats"]["max_avail"])
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise HostFailure(f"ceph df could not be understood: {error}") from error
    raise NotFound(f"the Ceph pool '{pool}' does not exist")


@dataclass(frozen=True, slots=True)
class Cluster:
    """How a cluster is reached: `monitors` (none: what /etc/ceph/ceph.conf says), user, the file of its key if any."""

    monitors: tuple[str, ...] = ()
    user: str | None = None
    key_file: Path | None = None

    def options(self) -> list[str]:
        """The options that rbd(8) and ceph(8) share."""
        return [
            *(["--mon-host", ",".join(self.monitors)] if self.monitors else []),
            *(["--name", f"client.{self.user}"] if self.user is not None else []),
            *(["--keyfile", str(self.key_file)] if self.key_file is not None and self.key_file.exists() else []),
        ]


class Rbd:
    """The images of one pool, or of a namespace in it. Their names are checked by the caller."""

    def __init__(
        self,
        pool: str,
        cluster: Cluster,
        namespace: str | None = None,
        data_pool: str | None = None,
        *,
        run: Runner = run,
        devices: Path = Path("/dev"),
    ) -> None:
        self.pool = pool
        self._devices = devices
        self._namespace = namespace
        self._cluster = cluster
        self._data = ["--data-pool", data_pool] if data_pool is not None else []
        self._run = run

    async def space(self) -> tuple[int, int]:
        """Bytes stored and free. Raises NotFound."""
        done = await self._query("ceph", "df", "--format", "json")
        return parse_space(done, self.pool)

    async def images(self) -> Sequence[Image]:
        """The images. Raises NotFound without the pool."""
        place = self.pool if self._namespace is None else f"{self.pool}/{self._namespace}"
        return parse_images(await self._query("rbd", "ls", "--long", "--format", "json", place), self.pool)

    async def snapshots(self, name: str) -> Sequence[str]:
        """The snapshots of an image, oldest first; of what is not there, none."""
        try:
            return parse_snapshots(await self._query("rbd", "snap", "ls", "--format", "json", self._place(name)))
        except NotFound:
            return []

    async def create(self, name: str, size: int) -> None:
        """Make an image of whole MiB. Raises AlreadyExists."""
        await self._change("create", "--image-format", "2", *_size(size), *self._data, self._place(name))

    async def remove(self, name: str) -> None:
        """Remove an image without snapshots. Raises WrongState when it is in use, NotFound."""
        await self._change("rm", "--no-progress", self._place(name))

    async def rename(self, old: str, new: str) -> None:
        """Give an image another name. Raises AlreadyExists, NotFound."""
        await self._change("rename", self._place(old), self._place(new))

    async def resize(self, name: str, size: int, *, smaller: bool = False) -> None:
        """Give an image another size, of whole MiB."""
        force = ["--allow-shrink"] if smaller else []
        await self._change("resize", "--no-progress", *_size(size), *force, self._place(name))

    async def snapshot(self, name: str, snapshot: str) -> None:
        """Keep its state. Raises AlreadyExists."""
        await self._change("snap", "create", "--no-progress", self._place(name, snapshot))

    async def rollback(self, name: str, snapshot: str) -> None:
        """Copy a snapshot back into its image. Raises NotFound."""
        await self._change("snap", "rollback", "--no-progress", self._place(name, snapshot))

    async def remove_snapshot(self, name: str, snapshot: str) -> None:
        """Forget a snapshot that is not protected. Raises WrongState, NotFound."""
        await self._change("snap", "rm", "--no-progress", self._place(name, snapshot))

    async def protect(self, name: str, snapshot: str) -> None:
        """Let clones build on a snapshot; one that they can build on is fine."""
        try:
            await self._change("snap", "protect", self._place(name, snapshot))
        except RunError as error:
            if "already protected" not in error.stderr and "busy" not in error.stderr:
                raise

    async def unprotect(self, name: str, snapshot: str) -> None:
        """Let no clones build on a snapshot any more; one that none could is fine. Raises WrongState when some do."""
        try:
            await self._change("snap", "unprotect", self._place(name, snapshot))
        except RunError as error:
            if "Invalid argument" not in error.stderr:
                raise

    async def clone(self, source: str, snapshot: str, name: str) -> None:
        """Make an image that builds on a protected snapshot. Raises AlreadyExists, NotFound."""
        await self._change("clone", *self._data, self._place(source, snapshot), self._place(name))

    async def copy(self, source: str, name: str, snapshot: str | None = None) -> None:
        """Make an independent image of the same content. Raises AlreadyExists, NotFound."""
        await self._change("cp", "--no-progress", *self._data, self._place(source, snapshot), self._place(name))

    async def map(self, name: str, snapshot: str | None = None) -> Path:
        """The device of an image or a snapshot of it, mapped if it is not. Raises HostFailure, NotFound."""
        for image, kept, device in await self._mapped():
            if (image, kept) == (name, snapshot or "-"):
                return device
        read_only = ["--read-only"] if snapshot is not None else []
        done = await self._tool(
            ["rbd", *self._cluster.options(), "device", "map", *read_only, self._place(name, snapshot)]
        )
        device = Path(done.strip())
        if device.parent != self._devices or not device.match("rbd[0-9]*"):
            raise HostFailure(f"rbd mapped '{self._place(name)}' and told '{done[:100]}'")
        return device

    async def unmap(self, name: str, snapshot: str | None = None) -> None:
        """Take the devices of an image and its snapshots away, or of one. Raises WrongState when one is open."""
        for image, kept, device in await self._mapped():
            if image == name and snapshot in (None, kept):
                await self._unmap(device)

    async def _unmap(self, device: Path) -> None:
        # udev looks at a device that was written to and closed.
        for patience in _PATIENCE:
            try:
                await self._change("device", "unmap", str(device))
                return
            except WrongState:
                await asyncio.sleep(patience)
        await self._change("device", "unmap", str(device))

    async def _mapped(self) -> list[tuple[str, str, Path]]:
        rows = parse_mapped(await self._query("rbd", "device", "list", "--format", "json"))
        ours = (self.pool, self._namespace or "")
        return [(image, snapshot, Path(device)) for *place, image, snapshot, device in rows if tuple(place) == ours]

    def _place(self, name: str, snapshot: str | None = None) -> str:
        parts = [self.pool, *([self._namespace] if self._namespace is not None else []), name]
        return "/".join(parts) + (f"@{snapshot}" if snapshot is not None else "")

    async def _query(self, tool: str, *argv: str) -> str:
        try:
            return (await self._run([tool, *self._cluster.options(), *argv])).text
        except RunError as error:
            raise _explain(error) from error

    async def _change(self, *argv: str) -> None:
        await self._tool(["rbd", *self._cluster.options(), *argv])

    async def _tool(self, argv: Sequence[str]) -> str:
        try:
            return (await finished(self._run(argv, deadline=_DEADLINE))).text
        except RunError as error:
            raise _explain(error) from error


def _size(size: int) -> list[str]:
    return ["--size", f"{-(-size // _MIB)}M"]


def _rows(text: str, what: str) -> Iterable[Mapping[str, Any]]:
    try:
        # Older ones write an object by number, newer ones a list.
        read = json.loads(text or "[]")
        return [dict(row) for row in (read.values() if isinstance(read, dict) else read)]
    except (ValueError, TypeError, RecursionError) as error:
        raise HostFailure(f"{what} could not be understood: {error}") from error


def _explain(error: RunError) -> BastideError:
    text, said = error.stderr.lower(), str(error).rpartition("failed with exit code")[2].partition(": ")[2]
    if "no space left" in text:
        return NoSpace(f"the pool is full: {said}")
    if "file exists" in text or "already exists" in text:
        return AlreadyExists(f"the image already exists: {said}")
    if "no such file" in text or "does not exist" in text:
        return NotFound(f"it does not exist: {said}")
    if any(part in text for part in ("has watchers", "children", "is protected", "device or resource busy")):
        return WrongState(f"it is in use: {said}")
    return error
