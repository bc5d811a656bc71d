"""A file that is being downloaded: its digests while it grows, and carrying on with what an earlier try left."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from bastide.base.errors import HostFailure
from bastide.base.units import MIB
from bastide.host.filesystems import translated

Progress = Callable[[int, int | None], None]
"""Gets the bytes so far and the whole, if known."""

_CHUNK = MIB


class Part:
    """The file being downloaded, its digests, and a note beside it that says of what version it is."""

    def __init__(
        self,
        url: str,
        target: Path,
        file: BinaryIO,
        *,
        algorithm: str | None = None,
        limit: int,
        progress: Progress | None = None,
    ) -> None:
        self.url = url
        self.size = 0
        self.known = False  # whether the server has answered, so that another try is worth while
        self.note = target.with_name(target.name + ".note")
        self._target = target
        self._file = file
        self._algorithm = algorithm
        self._limit = limit
        self._progress = progress
        self._validator: str | None = None
        self._total: int | None = None
        self._reset_digests()

    def _reset_digests(self) -> None:
        self.sha256 = hashlib.sha256()
        self._other = hashlib.new(self._algorithm, usedforsecurity=False) if self._algorithm else None

    def recover(self) -> None:
        """Take over what an earlier download of the same URL left, if it can be told to be of the same version."""
        try:
            note = json.loads(self.note.read_text())
            usable = note["url"] == self.url and isinstance(note["validator"], str)
        except (OSError, ValueError, KeyError, TypeError):
            usable = False
        if not usable:
            return self.restart()
        self._validator = note["validator"]
        self._file.seek(0)
        while data := self._file.read(_CHUNK):
            self._count(data)
        return None

    def restart(self) -> None:
        """Begin again with an empty file."""
        self._file.seek(0)
        self._file.truncate()
        self.size, self._validator = 0, None
        self._reset_digests()

    def range_headers(self) -> dict[str, str]:
        """Ask for the rest only, and only of the same version (RFC 9110, 13.1.5 and 14.2)."""
        if not self.size or self._validator is None or self._validator.startswith("W/"):
            self.restart()
            return {}
        return {"Range": f"bytes={self.size}-", "If-Range": self._validator}

    def begin(self, validator: str | None, total: int | None) -> None:
        """Note the version that is being fetched. Raises HostFailure when it is too large."""
        if total is not None and total > self._limit:
            raise HostFailure(f"download failed: {total} bytes are more than the {self._limit} that may be used")
        self._validator, self._total = validator, total
        if validator is not None:
            self.note.write_text(json.dumps({"url": self.url, "validator": validator}))

    def write(self, data: bytes) -> None:
        """Append. Raises HostFailure when it grows beyond the limit, NoSpace."""
        if self.size + len(data) > self._limit:
            self.discard()
            raise HostFailure(f"download failed: more than the {self._limit} bytes that may be used")
        with translated("write the download"):
            self._file.write(data)
        self._count(data)
        if self._progress is not None and data:
            self._progress(self.size, self._total)

    def _count(self, data: bytes) -> None:
        self.size += len(data)
        self.sha256.update(data)
        if self._other is not None:
            self._other.update(data)

    def digest(self) -> str | None:
        """The digest that the caller wanted, in hexadecimal."""
        return self._other.hexdigest() if self._other is not None else None

    def finish(self) -> None:
        """Bring everything to the file."""
        with translated("write the download"):
            self._file.flush()

    def discard(self) -> None:
        """Remove the file and its note."""
        self._target.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)
