"""The one table that maps the error tree to HTTP.

Proxmox VE answers most runtime errors, a missing guest included, with 500 and a text that clients match on
(`does not exist`, `no such`, `already exists`); so does this API. A 500 whose text begins with `internal error` is
the only one that tells of a fault of Bastide's own; its id finds the traceback in the daemon's log.
"""

import logging
import secrets
from dataclasses import dataclass, field

from bastide.base.errors import (
    AuthenticationFailed,
    BastideError,
    Conflict,
    Exhausted,
    InvalidParameter,
    MethodNotImplemented,
    PermissionDenied,
)
from bastide.base.exhaustion import exhausted

_log = logging.getLogger("bastide.api")

_STATUS: tuple[tuple[type[BastideError], int], ...] = (
    (InvalidParameter, 400),
    (AuthenticationFailed, 401),
    (PermissionDenied, 403),
    (MethodNotImplemented, 501),
    (Exhausted, 503),
)

_UNREAD = frozenset({408, 413})  # the rest of such a body is not waited for

DIGEST_TEXT = "detected modified configuration - file changed by other user? Try again."


class RequestRefused(Exception):  # noqa: N818 - it names what happened, like the tree in base/errors.py
    """The request itself cannot be taken: too large, too slow, not readable. Never leaves the API.

    With `unread` the rest of its body is not waited for: the connection ends with the answer.
    """

    def __init__(self, status: int, message: str, *, unread: bool = False) -> None:
        self.status = status
        self.unread = unread or status in _UNREAD
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Problem:
    """An error as it is answered: status code, a text for the user, and a reason for each faulty parameter."""

    status: int
    message: str
    errors: dict[str, str] = field(default_factory=dict)
    unread: bool = False


def problem_of(error: Exception) -> Problem:
    """How an exception is answered. An unknown one is logged with its traceback under an id that the answer names."""
    if isinstance(error, RequestRefused):
        return Problem(error.status, str(error), unread=error.unread)
    if isinstance(error, InvalidParameter):
        return Problem(400, "Parameter verification failed.", error.errors)
    if isinstance(error, Conflict):
        text = str(error)
        return Problem(500, text if "Try again" in text else DIGEST_TEXT)
    if (lacking := exhausted(error)) is not None:
        _log.warning("a call was refused: %s", lacking)
        return Problem(503, str(lacking))
    if isinstance(error, BastideError):
        status = next((code for kind, code in _STATUS if isinstance(error, kind)), 500)
        return Problem(status, str(error) or type(error).__name__)
    mark = secrets.token_hex(4)
    _log.error("internal error %s", mark, exc_info=error)
    return Problem(500, f"internal error {mark}: the daemon's log tells more")
