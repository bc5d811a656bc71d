"""File systems that stand still for a moment, with a kernel that takes its time."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bastide.host import freezing, reflink


@pytest.mark.anyio
async def test_who_is_cancelled_while_it_freezes_lets_it_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Freezing writes back what is dirty first, which takes seconds; the call cannot be taken back."""
    begun, done = threading.Event(), threading.Event()
    frozen: list[Path] = []

    @contextlib.contextmanager
    def slowly(mounted: Path) -> Iterator[None]:
        begun.set()
        done.wait(10)
        frozen.append(mounted)
        try:
            yield
        finally:
            frozen.remove(mounted)

    monkeypatch.setattr(reflink, "frozen", slowly)
    monkeypatch.setattr("os.path.ismount", lambda _path: True)
    mounted = tmp_path / "mounted"

    async def hold() -> None:
        async with freezing.still(mounted, "this"):
            raise AssertionError("it was to be cancelled before")

    holding = asyncio.create_task(hold())
    await asyncio.to_thread(begun.wait, 10)
    holding.cancel()
    await asyncio.sleep(0.05)
    # A daemon that dies now leaves word of it.
    assert [path.name for path in tmp_path.iterdir()] == ["mounted.frozen"]
    done.set()
    with pytest.raises(asyncio.CancelledError):
        await holding
    await asyncio.sleep(0.05)
    assert frozen == []
    assert list(tmp_path.iterdir()) == []
