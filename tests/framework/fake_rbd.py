"""rbd(8) and ceph(8) from memory: an image is a sparse file, mapping it makes another name of that file."""

import json
import os
from pathlib import Path
from typing import Any

from framework.fake_tools import FakeTools, ToolFailed, options

_VALUED = {"--format", "--size", "--image-format", "--data-pool", "--mon-host", "--name", "--keyfile"}


class FakeRbd(FakeTools):
    """The pool `rbd`, namespace `ns`."""

    def __init__(self, folder: Path, total: int = 1 << 40, *, dry: bool = False) -> None:
        super().__init__(folder, dry=dry)
        self.total = total
        self.images: dict[str, dict[str, Any]] = {}
        self.mapped: dict[str, tuple[str, str]] = {}
        self._number = 0
        self.tools |= {"rbd": self._rbd, "ceph": self._ceph}

    def _ceph(self, argv: list[str]) -> str:
        stored = sum(4096 for _ in self.images)
        return json.dumps({"pools": [{"name": "rbd", "stats": {"stored": stored, "max_avail": self.total - stored}}]})

    def _rbd(self, argv: list[str]) -> str:
        given = options(argv, _VALUED)
        words = given.pop("")
        verb = "_".join(words[: 2 if words[0] in ("snap", "device") else 1])
        places = [word.removeprefix("rbd/ns/") for word in words[2 if words[0] in ("snap", "device") else 1 :]]
        return str(getattr(self, f"_{verb}")(given, *places) or "")

    def _file(self, name: str, snapshot: str | None = None) -> Path:
        return self.devices / "images" / (f"{name}@{snapshot}" if snapshot else name)

    def _known(self, place: str) -> tuple[str, str]:
        name, _, snapshot = place.partition("@")
        if name not in self.images or (snapshot and snapshot not in self.images[name]["snapshots"]):
            raise ToolFailed(f"rbd: error opening image {place}: (2) No such file or directory", 2)
        return name, snapshot

    def _add(self, name: str, size: int, parent: str | None = None) -> None:
        if name in self.images:
            raise ToolFailed("rbd: create error: (17) File exists", 17)
        self.images[name] = {"size": size, "parent": parent, "snapshots": []}

    def _ls(self, given: dict[str, Any], *_place: str) -> str:
        rows: list[dict[str, Any]] = []
        for name, image in self.images.items():
            parent = {"pool": "rbd", "pool_namespace": "ns", "image": image["parent"], "snapshot": "__base__"}
            rows.append({"image": name, "size": image["size"], "format": 2,
                         **({"parent": parent} if image["parent"] else {})})  # fmt: skip
            rows += [{"image": name, "snapshot": kept, "size": image["size"]} for kept in image["snapshots"]]
        return json.dumps(rows)

    def _create(self, given: dict[str, Any], name: str) -> None:
        size = int(given["--size"][0].removesuffix("M")) << 20
        self._add(name, size)
        self.make(self._file(name), size)

    def _rm(self, given: dict[str, Any], name: str) -> None:
        self._known(name)
        if self.images[name]["snapshots"]:
            raise ToolFailed("rbd: image has snapshots - these must be deleted with 'rbd snap purge'", 39)
        if any(name == image for image, _ in self.mapped.values()):
            raise ToolFailed("rbd: error: image still has watchers", 16)
        del self.images[name]
        self._file(name).unlink()

    def _rename(self, given: dict[str, Any], old: str, new: str) -> None:
        self._known(old)
        if new in self.images:
            raise ToolFailed("rbd: rename error: (17) File exists", 17)
        for kept in (None, *self.images[old]["snapshots"]):
            self._file(old, kept).rename(self._file(new, kept))
        self.images[new] = self.images.pop(old)
        for image in self.images.values():
            image["parent"] = new if image["parent"] == old else image["parent"]

    def _resize(self, given: dict[str, Any], name: str) -> None:
        self._known(name)
        size = int(given["--size"][0].removesuffix("M")) << 20
        if size < self.images[name]["size"] and "--allow-shrink" not in given:
            raise ToolFailed("rbd: shrinking an image is only allowed with the --allow-shrink flag", 22)
        self.images[name]["size"] = size
        self.make(self._file(name), size)
        for device, (image, _) in self.mapped.items():
            if image == name:
                self.make(Path(device), size)

    def _copied(self, source: str, name: str, parent: str | None = None) -> None:
        old, snapshot = self._known(source)
        self._add(name, self.images[old]["size"], parent)
        self.copy(self._file(old, snapshot), self._file(name))

    def _clone(self, given: dict[str, Any], source: str, name: str) -> None:
        self._copied(source, name, source.partition("@")[0])

    def _cp(self, given: dict[str, Any], source: str, name: str) -> None:
        self._copied(source, name)

    def _snap_ls(self, given: dict[str, Any], name: str) -> str:
        self._known(name)
        return json.dumps([{"id": number, "name": kept} for number, kept in
                           enumerate(self.images[name]["snapshots"])])  # fmt: skip

    def _snap_create(self, given: dict[str, Any], place: str) -> None:
        name, _, snapshot = place.partition("@")
        self._known(name)
        if snapshot in self.images[name]["snapshots"]:
            raise ToolFailed("rbd: failed to create snapshot: (17) File exists", 17)
        seen = next((Path(device) for device, (image, _) in self.mapped.items() if image == name), self._file(name))
        self.copy(seen, self._file(name, snapshot))
        self.images[name]["snapshots"].append(snapshot)

    def _snap_rollback(self, given: dict[str, Any], place: str) -> None:
        name, snapshot = self._known(place)
        self.copy(self._file(name, snapshot), self._file(name))

    def _snap_rm(self, given: dict[str, Any], place: str) -> None:
        name, snapshot = self._known(place)
        self.images[name]["snapshots"].remove(snapshot)
        self._file(name, snapshot).unlink()

    def _snap_protect(self, given: dict[str, Any], place: str) -> None:
        self._known(place)

    def _snap_unprotect(self, given: dict[str, Any], place: str) -> None:
        name, _ = self._known(place)
        if any(image["parent"] == name for image in self.images.values()):
            raise ToolFailed("rbd: unprotecting snap failed: (16) Device or resource busy", 16)

    def _device_list(self, given: dict[str, Any]) -> str:
        return json.dumps([
            {"id": "0", "pool": "rbd", "namespace": "ns", "name": name, "snap": snapshot or "-", "device": device}
            for device, (name, snapshot) in self.mapped.items()
        ])  # fmt: skip

    def _device_map(self, given: dict[str, Any], place: str) -> str:
        name, snapshot = self._known(place)
        device = self.devices / f"rbd{self._number}"
        self._number += 1
        os.link(self._file(name, snapshot), device)
        self.mapped[str(device)] = (name, snapshot)
        return f"{device}\n"

    def _device_unmap(self, given: dict[str, Any], device: str) -> None:
        if self.in_use(Path(device)):
            raise ToolFailed("rbd: unmap failed: (16) Device or resource busy", 16)
        del self.mapped[device]
        Path(device).unlink()
