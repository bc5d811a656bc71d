"""What goes wrong between a client and a Bastide, in words of the one error tree.

`from_answer` turns an answer's status, reason phrase and body back into the error the daemon raised, so that the
command line and other programs see the same tree on both sides of the wire. Proxmox answers most runtime errors with
500 and a sentence; as every client does, the sentence is matched.
"""

import json
import re
from typing import Any

from bastide.base.errors import (
    AlreadyExists,
    AuthenticationFailed,
    BastideError,
    Cancelled,
    Conflict,
    DeadlineExceeded,
    InvalidParameter,
    Locked,
    MethodNotImplemented,
    NoSpace,
    NotFound,
    NotSupported,
    PermissionDenied,
    WrongState,
)


class Unreachable(BastideError):  # noqa: N818 - it says what is, like the tree in base/errors.py
    """Nothing answers where the daemon should be; the text says where."""


class ApiError(BastideError):
    """The daemon refused for a reason that the tree has no class for; `status` is the HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        self.status = status
        super().__init__(message)


class TaskFailed(BastideError):  # noqa: N818 - as above
    """A task ended with an error that the tree has no class for; the text is its end status."""


_BY_STATUS: dict[int, type[BastideError]] = {
    401: AuthenticationFailed,
    403: PermissionDenied,
    404: NotFound,
    409: AlreadyExists,
    412: Conflict,
    423: Locked,
    501: MethodNotImplemented,
    507: NoSpace,
}
_BY_TEXT: tuple[tuple[re.Pattern[str], type[BastideError]], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), error)
    for pattern, error in (
        (r"can't lock|got lock|is locked", Locked),
        (r"already exists|already in use", AlreadyExists),
        (r"does not exist|no such", NotFound),
        (r"Permission check failed", PermissionDenied),
        (r"changed since|digest|modified configuration", Conflict),
        (r"no space left|disk is full|out of space", NoSpace),
        (r"did not end within|deadline|timed out|timeout", DeadlineExceeded),
        (r"^interrupted|unexpected status|stopped by", Cancelled),
        (
            r"not running|already running|is running|is in use|still in use|still needs|is not empty|another task works"
            r"|you can.t|stop it|is disabled|is a template|used by|not available on node|is not active",
            WrongState,
        ),
        (r"not supported|does not support|cannot do|is not installed", NotSupported),
    )
)


def from_text(text: str) -> BastideError | None:
    """The error a sentence of the daemon stands for, or None when none is recognised."""
    for pattern, error in _BY_TEXT:
        if pattern.search(text):
            return error(text)
    return None


def from_answer(status: int, reason: str, body: bytes) -> BastideError:
    """The error that an answer with a status of 400 and more stands for."""
    message, errors = _read(body)
    message = message or reason or f"the daemon answered with status {status}"
    if status == 400 and errors:
        return InvalidParameter(errors)
    known = _BY_STATUS.get(status)
    if known is not None:
        return known(message)
    return from_text(message) or ApiError(status, message)


def _read(body: bytes) -> tuple[str, dict[str, str]]:
    """The message and the faulty parameters of an error's body; empty where there are none."""
    try:
        answer: Any = json.loads(body)
    except (ValueError, RecursionError):
        return "", {}
    if not isinstance(answer, dict):
        return "", {}
    errors = answer.get("errors")
    named = {str(key): str(why) for key, why in errors.items()} if isinstance(errors, dict) else {}
    return str(answer.get("message") or "").strip(), named
