"""A VM engine in a closed folder, for tests on real QEMU processes; nothing of it may be left afterwards."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from bastide.base.layout import Layout
from bastide.guest.qemu.engine import QemuEngine
from bastide.guest.vm_protocol import VmPlan
from framework.vms import plan_vm, traces

VMID = 4712


class Bench:
    """An engine in a closed folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.layout = Layout(folder / "host")
        self.engine = QemuEngine(self.layout)
        self.events: list[tuple[int, str, Mapping[str, Any]]] = []

    def plan(self, options: Mapping[str, Any] | None = None, vmid: int = VMID, **more: Any) -> VmPlan:
        return plan_vm(self.engine, vmid, options, **more)

    async def note(self, vmid: int, event: str, data: Mapping[str, Any]) -> None:
        self.events.append((vmid, event, data))

    async def told(self, event: str, seconds: float = 5) -> Mapping[str, Any]:
        """The data of an event, once it has come."""
        async with asyncio.timeout(seconds):
            while True:
                for _vmid, name, data in self.events:
                    if name == event:
                        return data
                await asyncio.sleep(0.02)

    async def another(self) -> "Bench":
        """The same host with another daemon; the first one is forgotten, as by kill -9."""
        await self.engine.close()
        self.engine, self.events = QemuEngine(self.layout), []
        self.engine.on_event(self.note)
        await self.engine.prepare()
        return self


Story = Callable[[Bench], Awaitable[None]]


@contextlib.contextmanager
def telling(tmp_path: Path) -> Iterator[Callable[[Story], None]]:
    """Runs a test's story with a bench; afterwards nothing of it may be left."""
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o700)
    layout = Layout(folder / "host")

    @contextlib.asynccontextmanager
    async def bench() -> AsyncIterator[Bench]:
        opened = Bench(folder)
        opened.engine.on_event(opened.note)
        await opened.engine.prepare()
        try:
            yield opened
        finally:
            for vmid in opened.engine.running():
                await opened.engine.stop(vmid)
            await opened.engine.purge()
            await opened.engine.close()

    def tell(story: Story) -> None:
        async def whole() -> None:
            async with bench() as opened:
                await story(opened)

        asyncio.run(whole())

    yield tell
    assert traces(layout) == []
