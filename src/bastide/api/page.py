"""The web page: the files that the build of `ui/` left in the package, with the headers that wall the page in.

A request names a file by a key of a table that was made by walking the folder, never by a path of its own, so that
nothing leads out of it. Whatever else a browser opens is `index.html`, which finds out what the address means.
"""

import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from bastide.api.encodings import takes

FOLDER = Path(__file__).resolve().parents[1] / "page"
"""Where the build puts the page (`ui/vite.config.ts`)."""

_ABSENT = """\
The web page is not built here.

`./bastide up`, run in a checkout, builds it; packages bring it built. The API answers below /api2/json, and the
command line does all that the page does: bastide --help
"""
_INDEX = "index.html"
_FOR_EVER = "public, max-age=31536000, immutable"
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".wasm": "application/wasm",
    ".webmanifest": "application/manifest+json",
    ".woff2": "font/woff2",
}
_PACKED = (("br", ".br"), ("gzip", ".gz"))
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'nonce-{nonce}'; img-src 'self' data: blob:; "
    "font-src 'self'; connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
_NOTHING = "default-src 'none'; frame-ancestors 'none'"
_WALLS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), display-capture=(), geolocation=(), hid=(), microphone=(), midi=(), payment=(), "
    "serial=(), usb=(), clipboard-read=(self), clipboard-write=(self), fullscreen=(self)",
}


@dataclass(frozen=True, slots=True)
class _Built:
    """The files of one build by the path of their URL. `mark` changes with each build."""

    mark: tuple[int, int, int]
    files: dict[str, Path]


class Page:
    """Answers what a browser asks for that is not the API's."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self._folder = folder
        self._built: _Built | None = None

    def answer(self, request: Request) -> Response | None:
        """The answer to a request that no route knows, or None when the page has nothing to do with it."""
        path = request.scope["path"]
        if request.method not in ("GET", "HEAD") or path == "/openapi.json" or f"{path}/".startswith("/api2/"):
            return None
        try:
            return self._found(request, path)
        except OSError:  # a build is at work
            return _plain(_ABSENT, 503)

    def _found(self, request: Request, path: str) -> Response | None:
        built = self._current()
        if built is not None and path in built.files and path != f"/{_INDEX}":
            return _file(request, path, built.files)
        if path.startswith("/assets/"):  # of an earlier build: a script that is missing must not be answered with HTML
            return _plain("There is no such file.\n", 404)
        if path not in ("/", f"/{_INDEX}") and "text/html" not in request.headers.get("accept", ""):
            return None
        return _plain(_ABSENT, 503) if built is None else _index(built.files[f"/{_INDEX}"])

    def _current(self) -> _Built | None:
        """The files as they are: a new build is seen at once."""
        try:
            found = os.stat(self._folder / _INDEX, follow_symlinks=False)
        except OSError:
            self._built = None
            return None
        mark = (found.st_ino, found.st_mtime_ns, found.st_size)
        if self._built is None or self._built.mark != mark:
            self._built = _Built(mark, _files(self._folder))
        return self._built if f"/{_INDEX}" in self._built.files else None


def _files(folder: Path) -> dict[str, Path]:
    """Every plain file below a folder, by its place in it. Links are not followed, and what is hidden is left out."""
    files: dict[str, Path] = {}
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            path = Path(place, name)
            if not name.startswith(".") and path.is_file() and not path.is_symlink():
                files[f"/{path.relative_to(folder)}"] = path
    return files


def _index(path: Path) -> Response:
    nonce = secrets.token_urlsafe(18)
    headers = {**_WALLS, "cache-control": "no-store", "content-security-policy": _POLICY.format(nonce=nonce)}
    text = path.read_text().replace("%NONCE%", nonce)
    return Response(text, media_type=_TYPES[".html"], headers=headers)


def _file(request: Request, path: str, files: dict[str, Path]) -> Response:
    headers = {
        **_WALLS,
        "content-security-policy": _NOTHING,
        "cache-control": _FOR_EVER if path.startswith("/assets/") else "no-cache",
    }
    taken = path
    if any(path + ending in files for _, ending in _PACKED):
        headers["vary"] = "accept-encoding"
    for encoding, ending in _PACKED:
        if path + ending in files and takes(request, encoding):
            headers["content-encoding"] = encoding
            taken = path + ending
            break
    media_type = _TYPES.get(files[path].suffix, "application/octet-stream")
    return Response(files[taken].read_bytes(), media_type=media_type, headers=headers)


def _plain(text: str, status: int) -> Response:
    headers = {**_WALLS, "cache-control": "no-store", "content-security-policy": _NOTHING}
    return Response(text, status_code=status, media_type=_TYPES[".txt"], headers=headers)
