"""Processes in a row: whose failure is the cause, and what it is told as."""

import pytest

from bastide.base.errors import HostFailure, NoSpace
from bastide.host.pipeline import Stage, run_pipeline

pytestmark = pytest.mark.anyio


def _saying(words: str, doing: str, code: int = 1) -> Stage:
    return Stage(["sh", "-c", f"echo '{words}' >&2; exit {code}"], doing)


async def test_tar_that_lost_its_reader_is_not_the_cause() -> None:
    """Its words for that are those for a full disk."""
    packing = _saying("tar: -: Wrote only 4096 of 10240 bytes", "packed", 2)
    with pytest.raises(HostFailure, match="could not be written: write error: Input/output error") as failed:
        await run_pipeline([packing, _saying("write error: Input/output error", "written")])
    assert not isinstance(failed.value, NoSpace)


@pytest.mark.parametrize("words", ["tar: ./big: Wrote only 4096 of 10240 bytes", "cat: No space left on device"])
async def test_a_full_disk_at_the_end(words: str) -> None:
    with pytest.raises(NoSpace, match="unpacked"):
        await run_pipeline([_saying("", "read", 0), _saying(words, "unpacked", 2)])


async def test_the_first_that_fails_by_itself_is_the_cause() -> None:
    with pytest.raises(HostFailure, match="could not be read: broken"):
        await run_pipeline([_saying("broken", "read"), _saying("unexpected end", "unpacked")])
