"""The one error tree.

BastideError
├── InvalidParameter          a value from outside is wrong; names each parameter and why
├── AuthenticationFailed      who you are is not known
├── PermissionDenied          who you are may not do this
├── NotFound                  what was named does not exist
├── AlreadyExists             what was to be made is there already
├── Locked                    another task owns the guest; names it
├── Conflict                  the record changed since it was read (digest, compare-and-swap)
├── WrongState                the guest or storage is in a state that does not allow this
├── NotSupported              this host, storage or engine cannot do it (a capability)
├── MethodNotImplemented      the method is in the reference and not built yet
├── Cancelled                 the task was stopped by a user
└── HostFailure               the machine refused
    ├── RunError              a process failed; holds argv, exit code, stderr
    ├── NoSpace               a disk is full
    ├── Exhausted             no file, memory, thread or process is to be had at the moment
    ├── Unreadable            a record of the state cannot be read; names it
    └── DeadlineExceeded      it took longer than allowed

`api/errors.py` maps the tree to HTTP, `cli/errors.py` to exit codes.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager


class BastideError(Exception):
    """Base of every error Bastide raises on purpose. `str(error)` is a sentence for the user."""


class InvalidParameter(BastideError):
    """Values from outside that cannot be used: `errors` maps each parameter to the reason."""

    def __init__(self, errors: dict[str, str]) -> None:
        self.errors = errors
        super().__init__("; ".join(f"{name}: {why}" for name, why in errors.items()))


class AuthenticationFailed(BastideError):
    """The ticket, token or password is not valid."""


class PermissionDenied(BastideError):
    """The caller lacks a privilege; the text is Proxmox's `Permission check failed (PATH, PRIV)`."""


class NotFound(BastideError):
    """The text contains `does not exist` or `no such`, which clients match on."""


class AlreadyExists(BastideError):
    """The text contains `already exists`, which clients match on."""


class Locked(BastideError):
    """Another task works on the guest; the text names that task."""


class Conflict(BastideError):
    """A compare-and-swap or a digest found a newer record than the caller read."""


class WrongState(BastideError):
    """The guest or storage is not in the state that the operation needs."""


class NotSupported(BastideError):
    """A capability that this host, storage or engine does not have."""


class MethodNotImplemented(BastideError):
    """A method or option of the reference that is not built yet; answered with 501."""


class Cancelled(BastideError):
    """A user stopped the task."""


class HostFailure(BastideError):
    """The kernel or a tool on this machine refused."""


class NoSpace(HostFailure):
    """A file system or quota is full."""


class Exhausted(HostFailure):
    """The process or the host has run out of open files, memory, threads or processes; it passes."""


class Unreadable(HostFailure):
    """A record of the state is damaged, or another version's; nothing writes over it."""


class DeadlineExceeded(HostFailure):
    """An action did not end within its deadline."""


class RunError(HostFailure):
    """A process ended with a failure.

    `argv` is the argument list, `code` the exit code (negative: the signal), `stderr` its last output.
    """

    def __init__(self, argv: Sequence[str], code: int, stderr: str) -> None:
        self.argv = list(argv)
        self.code = code
        self.stderr = stderr
        last = stderr.strip().splitlines()[-1] if stderr.strip() else "no message"
        super().__init__(f"{self.argv[0]} failed with exit code {code}: {last}")


@contextmanager
def named_by(parameter: str) -> Iterator[None]:
    """While entered, what is wrong with the thing that a parameter names is told by that parameter.

    Raises InvalidParameter in place of NotFound, NotSupported, WrongState, and of one that names another parameter.
    """
    try:
        yield
    except InvalidParameter as error:
        raise InvalidParameter({parameter: "; ".join(error.errors.values())}) from None
    except (NotFound, NotSupported, WrongState) as error:
        raise InvalidParameter({parameter: str(error)}) from None
