"""Reading an image server's simplestreams index: which images it has, and where the newest lies.

The form is the one of Launchpad's simplestreams, as LXC's image servers use it: `streams/v1/index.json` names product
files, whose products hold versions, whose items are files with a size and a SHA-256.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urljoin

from bastide.base.errors import HostFailure
from bastide.model.guest import Kind

INDEX = "streams/v1/index.json"

_FILES: Mapping[Kind, re.Pattern[str]] = {
    "lxc": re.compile(r"root\.tar\.(?:xz|zst|gz|bz2)", re.ASCII),
    "qemu": re.compile(r"disk-kvm\.img|disk1?\.img|uefi1\.img", re.ASCII),
}
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+~-]{0,63}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Image:
    """The newest version of an image, a file of `size` bytes at `url`.

    It is a tar archive of a root file system for a container, and a qcow2 disk image for a VM.
    """

    distribution: str
    release: str
    variant: str
    architecture: str
    aliases: tuple[str, ...]
    version: str
    url: str
    size: int
    sha256: str
    kind: Kind = "lxc"

    @property
    def package(self) -> str:
        """The name its template begins with: `alpine-3.20-default`."""
        return f"{self.distribution}-{self.release}-{self.variant}"

    @property
    def filename(self) -> str:
        """The name of the template: `alpine-3.20-default_20240901-1300_amd64.tar.xz`."""
        suffix = "qcow2" if self.kind == "qemu" else f"tar.{self.url.rpartition('.tar.')[2]}"
        version = re.sub(r"[^A-Za-z0-9.]+", "-", self.version)
        return f"{self.package}_{version}_{self.architecture}.{suffix}"


def product_paths(text: str | bytes) -> list[str]:
    """The product files that an index names. Raises HostFailure."""
    entries = _mapping(_load(text).get("index"))
    paths = []
    for entry in entries.values():
        fields = _mapping(entry)
        path = fields.get("path")
        if fields.get("datatype") == "image-downloads" and isinstance(path, str) and _is_relative(path):
            paths.append(path)
    return paths


def images(text: str | bytes, server: str, kind: Kind = "lxc") -> list[Image]:
    """The images of a product file for a kind of guest, each in its newest version. Raises HostFailure.

    `server` is the URL that all paths are relative to. A product that is not of the known form is left out.
    """
    found = []
    for name, product in _mapping(_load(text).get("products")).items():
        fields = _mapping(product)
        versions = _mapping(fields.get("versions"))
        for version in sorted(versions, reverse=True):
            items = _mapping(_mapping(versions[version]).get("items"))
            image = _image(str(name), fields, version, _item(items, kind), server)
            if image is not None:
                found.append(replace(image, kind=kind))
                break
    return found


def find(candidates: Iterable[Image], alias: str, architecture: str) -> Image | None:
    """The image that an alias means on an architecture: `alpine/3.20`, `alpine/3.20/default`, or with `/amd64`.

    For a VM, one with cloud-init is preferred, without which it would not get a name or a key.
    """
    wanted = alias.strip("/")
    head, _, last = wanted.rpartition("/")
    for image in sorted(candidates, key=lambda one: one.kind == "qemu" and one.variant != "cloud"):
        names = {*image.aliases, f"{image.distribution}/{image.release}/{image.variant}"}
        if image.variant == "default" or (image.kind == "qemu" and image.variant == "cloud"):
            names |= {alias.removesuffix("/cloud") for alias in image.aliases}
            names.add(f"{image.distribution}/{image.release}")
        if image.architecture == architecture and wanted in names:
            return image
        if image.architecture == last and head in names:
            return image
    return None


def _item(items: dict[str, Any], kind: Kind) -> dict[str, Any] | None:
    """The file of a version that a guest of that kind is made from, when it is described in full."""
    for key, item in items.items():
        file = _mapping(item)
        path, size, sha256 = file.get("path"), file.get("size"), file.get("sha256")
        usable = isinstance(path, str) and _is_relative(path) and isinstance(size, int) and isinstance(sha256, str)
        if _FILES[kind].fullmatch(str(file.get("ftype") or key)) and usable and _SHA256.fullmatch(str(sha256)):
            return file
    return None


def _image(name: str, fields: dict[str, Any], version: str, file: dict[str, Any] | None, server: str) -> Image | None:
    parts = name.split(":")
    distribution = str(fields.get("os") or parts[0]).lower()
    release = str(fields.get("release") or (parts[1] if len(parts) > 1 else ""))
    variant = str(fields.get("variant") or "default")
    architecture = str(fields.get("arch") or "")
    if file is None or not all(_WORD.fullmatch(word) for word in (distribution, release, variant, architecture)):
        return None
    return Image(
        distribution=distribution,
        release=release,
        variant=variant,
        architecture=architecture,
        aliases=tuple(alias.strip() for alias in str(fields.get("aliases") or "").split(",") if alias.strip()),
        version=version,
        url=urljoin(server.rstrip("/") + "/", file["path"]),
        size=file["size"],
        sha256=file["sha256"],
    )


def _is_relative(path: str) -> bool:
    """Whether a path stays below its server: no other host, no way up, no character that would need quoting."""
    return re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._~:+/-]*", path, re.ASCII) is not None and not (
        "//" in path or ".." in path.split("/") or re.match(r"[a-z]+:", path) is not None
    )


def _load(text: str | bytes) -> dict[str, Any]:
    try:
        return _mapping(json.loads(text))
    except (ValueError, RecursionError):
        raise HostFailure("the image server's index cannot be read: it is not JSON") from None


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
