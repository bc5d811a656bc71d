"""Whether an error means that the process has run out of something that comes back by itself."""

import errno
from collections.abc import Iterator

from bastide.base.errors import Exhausted

_WHAT = {
    errno.EMFILE: "open files",  # of this process: getrlimit(2), RLIMIT_NOFILE
    errno.ENFILE: "open files of the whole host",
    errno.ENOMEM: "memory",
}


def exhausted(error: BaseException) -> Exhausted | None:
    """The error as one of the tree when it, or what it came from, is a want of files, memory, threads or processes."""
    for one in _causes(error):
        if isinstance(one, Exhausted):
            return one
        what = _what(one)
        if what is not None:
            return Exhausted(f"the host has no more {what} for this at the moment: try again in some seconds")
    return None


def _what(error: BaseException) -> str | None:
    if isinstance(error, MemoryError):
        return "memory"
    if isinstance(error, RuntimeError) and "can't start new thread" in str(error):
        return "threads"
    return _WHAT.get(error.errno or 0) if isinstance(error, OSError) else None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what it was raised from, or while handling; of a group, the first."""
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        yield one
        inner = one.exceptions[0] if isinstance(one, BaseExceptionGroup) else None
        one = inner or one.__cause__ or (None if one.__suppress_context__ else one.__context__)
