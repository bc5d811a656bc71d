"""What every container engine must do, the fake and LXC alike."""

import asyncio
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from bastide.base.errors import WrongState
from bastide.base.layout import Layout
from bastide.guest.fake import FakeEngine
from bastide.guest.lxc.engine import LxcEngine
from bastide.guest.protocol import Command, ContainerEngine, ContainerPlan, IdMap
from bastide.model.backup import Tree
from bastide.model.container import ContainerConfig
from bastide.model.guest import GuestState
from framework.roots import busybox_tar, remove_tree

VMID = 4711


@dataclass
class Subject:
    """An engine and a guest that it can start."""

    engine: ContainerEngine
    plan: ContainerPlan


Story = Callable[[Subject], Awaitable[None]]


async def lxc(folder: Path) -> tuple[LxcEngine, ContainerPlan]:
    """LXC with a busybox root."""
    engine = LxcEngine(Layout(folder / "host"))
    await engine.prepare()
    idmap = engine.choose_ids(VMID, [])
    root = folder / "root"
    root.mkdir()
    async with engine.unpacking(Tree(root), idmap) as argv:
        await asyncio.to_thread(subprocess.run, argv, input=busybox_tar(), check=True)
    return engine, ContainerPlan(VMID, ContainerConfig.parse({"memory": 64}), root, [], {}, idmap)


@pytest.fixture(params=["fake", pytest.param("lxc", marks=pytest.mark.system)])
def tell(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[Story], None]]:
    """Runs a story with each engine."""

    async def whole(story: Story) -> None:
        if request.param == "fake":
            plan = ContainerPlan(VMID, ContainerConfig.parse({"memory": 64}), tmp_path, [], {}, IdMap(65536))
            await story(Subject(FakeEngine(), plan))
            return
        engine, plan = await lxc(tmp_path / "closed")
        try:
            await story(Subject(engine, plan))
        finally:
            if engine.running():
                await engine.stop(VMID)
            await engine.cleanup(VMID)
            await engine.purge()

    (tmp_path / "closed").mkdir(mode=0o700)
    yield lambda story: asyncio.run(whole(story))
    remove_tree(tmp_path / "closed")


def test_a_guest_is_stopped_until_it_is_started(tell: Callable[[Story], None]) -> None:
    async def story(given: Subject) -> None:
        engine = given.engine
        assert (engine.state(VMID), engine.running()) == (GuestState.STOPPED, frozenset())
        assert engine.init_pid(VMID) is engine.started_at(VMID) is engine.usage(VMID) is None
        assert list(await engine.addresses(VMID)) == []
        async with asyncio.timeout(10):
            await engine.wait_stopped(VMID)
        with pytest.raises(WrongState):
            await engine.execute(VMID, Command(["true"]))

        await engine.start(given.plan)
        assert (engine.state(VMID), engine.running()) == (GuestState.RUNNING, frozenset({VMID}))
        assert engine.init_pid(VMID) is not None
        assert engine.started_at(VMID) is not None
        usage = engine.usage(VMID)
        assert usage is not None
        assert usage.processes >= 1
        with pytest.raises(WrongState):
            await engine.start(given.plan)

    tell(story)


@pytest.mark.parametrize("how", ["stop", "shutdown"])
def test_whoever_waits_learns_of_the_end(tell: Callable[[Story], None], how: str) -> None:
    async def story(given: Subject) -> None:
        engine = given.engine
        await engine.start(given.plan)
        waiting = [asyncio.ensure_future(engine.wait_stopped(VMID)) for _ in range(3)]
        await asyncio.sleep(0.05)
        assert not any(task.done() for task in waiting)
        if how == "stop":
            await engine.stop(VMID)
        else:
            assert await engine.shutdown(VMID, 20)
        async with asyncio.timeout(10):
            await asyncio.gather(*waiting)
        assert (engine.state(VMID), engine.running()) == (GuestState.STOPPED, frozenset())
        await engine.cleanup(VMID)
        await engine.start(given.plan)

    tell(story)


def test_a_paused_guest_counts_as_running(tell: Callable[[Story], None]) -> None:
    async def story(given: Subject) -> None:
        engine = given.engine
        await engine.start(given.plan)
        await engine.freeze(VMID)
        assert (engine.state(VMID), engine.running()) == (GuestState.PAUSED, frozenset({VMID}))
        await engine.thaw(VMID)
        assert engine.state(VMID) is GuestState.RUNNING
        await engine.freeze(VMID)
        await engine.stop(VMID)
        assert engine.state(VMID) is GuestState.STOPPED

    tell(story)


def test_commands_keep_their_streams_and_codes(tell: Callable[[Story], None]) -> None:
    async def story(given: Subject) -> None:
        await given.engine.start(given.plan)
        script = "cat; echo error >&2; exit 7"
        process = await given.engine.execute(VMID, Command(["sh", "-c", script], env={"A": "b"}))
        out, err = await process.communicate(b"through")
        assert (process.returncode, out, err) == (7, b"through", b"error\n")

    tell(story)
