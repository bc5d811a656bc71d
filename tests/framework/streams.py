"""A file server on loopback, and a simplestreams tree made in a folder."""

import functools
import hashlib
import http.server
import io
import json
import lzma
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def serve(folder: Path) -> Iterator[str]:
    """Serve a folder; yields the URL of its root."""
    handler = functools.partial(_Quiet, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_args: Any) -> None:
        """Say nothing."""


def root_tar(files: dict[str, bytes]) -> bytes:
    """A small root file system as `.tar.xz`."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return lzma.compress(buffer.getvalue())


def write_streams(folder: Path, architecture: str = "amd64") -> None:
    """An image server with two versions of Alpine 3.20 and one Debian image that is no tar archive."""
    products: dict[str, Any] = {}
    versions = {}
    for version in ("20240101_13:00", "20240901_13:00"):
        data = root_tar({"etc/alpine-release": version.encode()})
        path = f"images/alpine/3.20/{architecture}/default/{version}/root.tar.xz"
        (folder / path).parent.mkdir(parents=True)
        (folder / path).write_bytes(data)
        item = {"ftype": "root.tar.xz", "path": path, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        versions[version] = {"items": {"root.tar.xz": item, "lxd.tar.xz": {**item, "ftype": "lxd.tar.xz"}}}
    products[f"alpine:3.20:{architecture}:default"] = {
        "aliases": "alpine/3.20/default,alpine/3.20",
        "arch": architecture,
        "os": "Alpine",
        "release": "3.20",
        "variant": "default",
        "versions": versions,
    }
    products[f"debian:bookworm:{architecture}:default"] = {
        "aliases": "debian/12",
        "arch": architecture,
        "os": "Debian",
        "release": "bookworm",
        "variant": "default",
        "versions": {
            "1": {"items": {"root.squashfs": {"ftype": "squashfs", "path": "x", "size": 1, "sha256": "0" * 64}}}
        },
    }
    index = {
        "format": "index:1.0",
        "index": {"images": {"datatype": "image-downloads", "path": "streams/v1/images.json"}},
    }
    (folder / "streams/v1").mkdir(parents=True)
    (folder / "streams/v1/index.json").write_text(json.dumps(index))
    (folder / "streams/v1/images.json").write_text(json.dumps({"format": "products:1.0", "products": products}))
