"""Errors as a user of the command line meets them: a sentence, what to do, and an exit code.

| code | meaning |
|---|---|
| 0 | done |
| 1 | it failed |
| 2 | the command line is wrong, or a value in it |
| 3 | what was named does not exist |
| 4 | not allowed, or not known who asks |
| 5 | no daemon answers |
| 6 | in the way: locked by a task, exists already, changed meanwhile, or in the wrong state |
| 7 | not possible on this host, or not built yet |
| 8 | it took longer than its deadline |
| 130 | interrupted |

`exec` and `console` end with the exit code of the command in the guest when it ran.
"""

import re
import sys

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
    NotFound,
    NotSupported,
    PermissionDenied,
    WrongState,
)
from bastide.client.errors import Unreachable

INTERRUPTED = 130

# the first class that matches decides: a subclass stands before its base
_CODES: tuple[tuple[type[BastideError], int], ...] = (
    (InvalidParameter, 2),
    (NotFound, 3),
    (PermissionDenied, 4),
    (AuthenticationFailed, 4),
    (Unreachable, 5),
    (Locked, 6),
    (AlreadyExists, 6),
    (Conflict, 6),
    (WrongState, 6),
    (NotSupported, 7),
    (MethodNotImplemented, 7),
    (DeadlineExceeded, 8),
    (Cancelled, INTERRUPTED),
    (BastideError, 1),
)


def exit_code(error: BastideError) -> int:
    """The exit code that stands for an error."""
    return next(code for kind, code in _CODES if isinstance(error, kind))


def lines(error: BastideError, root_option: str = "") -> list[str]:
    """What is printed: the error first, then what to do. `root_option` is ` --root DIR` where one was given."""
    if isinstance(error, InvalidParameter):
        told = [f"{name}: {why}" for name, why in error.errors.items()]
    else:
        told = str(error).strip().splitlines() or [type(error).__name__]
    return [*told, *_advice(error, root_option)]


_DISABLED = re.compile(r"storage '([^']+)' is disabled$")
_STORAGE = re.compile(r"storage '[^']*' does not exist$")


def _advice(error: BastideError, root_option: str) -> list[str]:
    text = str(error)
    if isinstance(error, Unreachable) and text.startswith("no daemon answers at /"):
        return [f"start it with: bastide up{root_option}"]
    if isinstance(error, Locked):
        return [f"a task works on it: bastide task ls{root_option}"]
    if found := _DISABLED.search(text):
        return [f"use it again with: bastide storage set{root_option} {found[1]} --delete disable"]
    if isinstance(error, NotFound) and _STORAGE.match(text):
        return [f"those that do: bastide storage ls{root_option}"]
    if isinstance(error, AuthenticationFailed) and "certificate" not in text:
        return ["check BASTIDE_TOKEN: user@realm!name=secret"]
    return []


def report(error: BastideError, root_option: str = "") -> int:
    """Print an error to standard error and return its exit code."""
    first, *rest = lines(error, root_option)
    red, plain = ("\033[1;31m", "\033[0m") if sys.stderr.isatty() else ("", "")
    sys.stderr.write(f"{red}error:{plain} {_printable(first)}\n")
    sys.stderr.writelines(f"       {_printable(line)}\n" for line in rest)
    return exit_code(error)


def _printable(text: str) -> str:
    """Text without control characters: an error may repeat what a guest or another program wrote."""
    return "".join(char if char.isprintable() else "?" for char in text)
