"""HTTP status codes that carry their own reason phrase.

Proxmox VE puts the error's first line into the reason phrase, and clients print it. ASGI has no place for it, so a
status is an `int` with a `reason`, and `install` teaches uvicorn's tables of status lines to read it.
"""

from typing import Any

from uvicorn.protocols.http import httptools_impl
from uvicorn.protocols.websockets import websockets_sansio_impl

_REASON_LIMIT = 500


class Status(int):
    """An HTTP status code with its own reason phrase (one line of printable ASCII)."""

    reason: str

    def __new__(cls, code: int, reason: str) -> "Status":
        """Make one; the reason's first line is kept, what could break the status line is replaced by `?`."""
        status = super().__new__(cls, code)
        lines = reason.strip().splitlines() or [""]
        first = lines[0].encode("ascii", "replace").decode()[:_REASON_LIMIT]
        status.reason = "".join(char if " " <= char <= "~" else "?" for char in first)
        return status


class _StatusLines(dict[int, bytes]):
    def __getitem__(self, code: int) -> bytes:
        if isinstance(code, Status):
            return f"HTTP/1.1 {int(code)} {code.reason}\r\n".encode()
        return super().__getitem__(code)


class _StatusPhrases(dict[int, str]):
    def __getitem__(self, code: int) -> str:
        return code.reason if isinstance(code, Status) else super().__getitem__(code)


def install() -> None:
    """Make uvicorn's HTTP and WebSocket protocols send a `Status`'s reason. May be called again."""
    lines: Any = httptools_impl
    if not isinstance(lines.STATUS_LINE, _StatusLines):
        lines.STATUS_LINE = _StatusLines(lines.STATUS_LINE)
    phrases: Any = websockets_sansio_impl
    if not isinstance(phrases.STATUS_PHRASES, _StatusPhrases):
        phrases.STATUS_PHRASES = _StatusPhrases(phrases.STATUS_PHRASES)
