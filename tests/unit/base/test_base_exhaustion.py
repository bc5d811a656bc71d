"""What counts as a want that passes."""

import errno

import pytest

from bastide.base.errors import Exhausted, HostFailure, NotFound
from bastide.base.exhaustion import exhausted


@pytest.mark.parametrize(
    ("error", "what"),
    [
        (OSError(errno.EMFILE, "x"), "open files"),
        (OSError(errno.ENFILE, "x"), "open files of the whole host"),
        (OSError(errno.ENOMEM, "x"), "memory"),
        (MemoryError(), "memory"),
        (RuntimeError("can't start new thread"), "threads"),
        (ExceptionGroup("x", [MemoryError()]), "memory"),
    ],
)
def test_wants_are_told(error: Exception, what: str) -> None:
    found = exhausted(error)
    assert found is not None
    assert f"no more {what} for this" in str(found)


def test_what_it_came_from_counts() -> None:
    error = HostFailure("the task's log cannot be made")
    error.__cause__ = OSError(errno.EMFILE, "x")
    assert exhausted(error) is not None


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "x"), OSError("x"), NotFound("x"), RuntimeError("x"), KeyError("x")]
)
def test_other_errors_are_none(error: Exception) -> None:
    assert exhausted(error) is None


def test_one_that_says_so_itself_stays_as_it_is() -> None:
    error = Exhausted("no process")
    assert exhausted(error) is error


def test_a_circle_of_causes_ends() -> None:
    first, second = ValueError("1"), ValueError("2")
    first.__cause__, second.__cause__ = second, first
    assert exhausted(first) is None
