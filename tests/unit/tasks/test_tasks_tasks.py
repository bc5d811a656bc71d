"""Tasks: recorded first, logged, ended in words, listed, stopped, and found again after a crash."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bastide.base.errors import HostFailure, InvalidParameter, NoSpace, NotFound, WrongState
from bastide.base.ids import Upid
from bastide.base.layout import Layout
from bastide.model.access import ROOT, Identity
from bastide.model.task import LogLine, TaskRecord
from bastide.state.memory import MemoryStore
from bastide.state.sqlite import SqliteStore
from bastide.state.store import ANY, Entry
from bastide.tasks.filters import TaskFilter
from bastide.tasks.tasks import DAEMON_DIED, DAEMON_STOPPED, Task, Tasks

ADA = Identity("ada@pve", "cli")


@pytest.fixture
async def tasks(tmp_path: Path) -> AsyncIterator[Tasks]:
    made = Tasks(MemoryStore(), Layout(tmp_path), "node1")
    yield made
    await made.shutdown()


async def nothing(_task: Task) -> None:
    return


async def forever(_task: Task) -> None:
    await asyncio.Event().wait()


@pytest.mark.anyio
async def test_a_task_is_recorded_before_it_begins_and_its_end_is_kept(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "store.db")
    tasks = Tasks(store, Layout(tmp_path), "node1")
    seen: list[Entry | None] = []

    async def work(task: Task) -> None:
        seen.append(await store.get(f"task/{task.upid}"))
        task.log("extracting")

    upid = await tasks.start("vzcreate", "100", ROOT, work)
    record = await tasks.wait(upid)
    assert seen[0] is not None
    assert (record.exitstatus, record.running) == ("OK", False)
    assert abs(record.endtime - time.time()) < 5  # type: ignore[operator]
    text = str(upid)
    assert text.startswith("UPID:node1:")
    assert text.endswith(":vzcreate:100:root@pam:")
    assert Upid.parse(text) == upid
    await store.close()

    store = await SqliteStore.open(tmp_path / "store.db")
    again = Tasks(store, Layout(tmp_path), "node1")
    assert await again.get(text) == record
    lines, total = await again.log(text)
    assert [line.t for line in lines] == ["extracting", "TASK OK"]
    assert total == 2
    await store.close()


async def fail_clearly(task: Task) -> None:
    task.warn("odd")
    raise NoSpace("no space left\nin the pool\x1b[0m")


async def fail_oddly(_task: Task) -> None:
    raise KeyError


async def fail_in_group(_task: Task) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(fail_deep())


async def fail_deep() -> None:
    raise HostFailure("bridge 'vmbr9' does not exist")


async def warn_twice(task: Task) -> None:
    task.warn("first")
    await asyncio.to_thread(task.warn, "second")


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("work", "status", "last"),
    [
        (nothing, "OK", "TASK OK"),
        (warn_twice, "WARNINGS: 2", "TASK WARNINGS: 2"),
        (fail_clearly, "no space left in the pool", "TASK ERROR: no space left in the pool"),
        (fail_oddly, "KeyError", "TASK ERROR: KeyError"),
        (fail_in_group, "bridge 'vmbr9' does not exist", "TASK ERROR: bridge 'vmbr9' does not exist"),
    ],
)
async def test_the_end_is_said_in_one_line(tasks: Tasks, work: Any, status: str, last: str) -> None:
    upid = await tasks.start("test", "", ROOT, work)
    assert (await tasks.wait(upid)).exitstatus == status
    assert (await tasks.log(upid))[0][-1].t == last


@pytest.mark.anyio
async def test_a_stopped_task_undoes_its_work_and_says_so(tasks: Tasks) -> None:
    undone: list[bool] = []

    async def work(task: Task) -> None:
        try:
            await forever(task)
        finally:
            await asyncio.sleep(0.01)
            undone.append(True)

    upid = await tasks.start("test", "", ROOT, work)
    await asyncio.sleep(0)
    await tasks.stop(upid)
    await asyncio.sleep(0)
    await tasks.stop(upid)
    assert (await tasks.wait(upid)).exitstatus == "received interrupt"
    assert undone == [True]
    await tasks.stop(upid)
    with pytest.raises(NotFound, match="no such task"):
        await tasks.stop("UPID:x")


@pytest.mark.anyio
async def test_a_task_that_is_stopped_before_its_first_step_ends_too(tasks: Tasks) -> None:
    upid = await tasks.start("test", "", ROOT, forever)
    await tasks.stop(upid)
    assert (await tasks.wait(upid)).exitstatus == "received interrupt"


@pytest.mark.anyio
async def test_many_tasks_in_a_second_have_names_of_their_own(tasks: Tasks) -> None:
    upids = await asyncio.gather(*(tasks.start("vzstart", "100", ADA, nothing) for _ in range(200)))
    assert len({str(upid) for upid in upids}) == 200
    assert all(Upid.parse(str(upid)).user == "ada@pve!cli" for upid in upids)
    for upid in upids:
        await tasks.wait(upid)
    shown = await tasks.list(limit=500)
    assert [record.upid for record in shown] == list(reversed(upids))


@pytest.mark.anyio
@pytest.mark.parametrize(("kind", "what"), [("vz create", ""), ("t", "a:b"), ("t", "../x"), ("t", "a\x1bb"), ("", "")])
async def test_what_makes_no_upid_is_refused(tasks: Tasks, kind: str, what: str) -> None:
    with pytest.raises(InvalidParameter):
        await tasks.start(kind, what, ROOT, nothing)
    assert await tasks.list() == []


@pytest.mark.anyio
async def test_a_log_is_followed_while_it_grows(tasks: Tasks, tmp_path: Path) -> None:
    go = asyncio.Event()

    async def work(task: Task) -> None:
        task.log("one\r\ntwo\x07\x1b[31m red\u2028three")
        await go.wait()
        await asyncio.to_thread(task.log, "")

    upid = await tasks.start("test", "", ROOT, work)
    lines = tasks.follow(upid)
    assert [await anext(lines) for _ in range(3)] == [LogLine(1, "one"), LogLine(2, "two red"), LogLine(3, "three")]
    late = asyncio.ensure_future(_collect(tasks.follow(upid, 3)))
    go.set()
    assert [line async for line in lines] == [LogLine(4, ""), LogLine(5, "TASK OK")]
    assert await late == [LogLine(3, "three"), LogLine(4, ""), LogLine(5, "TASK OK")]
    assert await _collect(tasks.follow(upid, 5)) == [LogLine(5, "TASK OK")]
    (path,) = (tmp_path / "log" / "tasks").glob("*/*")
    assert path.parent.name == f"{upid.starttime:X}"[-1]
    assert path.name == str(upid)


async def _collect(lines: AsyncIterator[LogLine]) -> list[LogLine]:
    return [line async for line in lines]


@pytest.mark.anyio
async def test_a_log_has_an_end(tasks: Tasks, tmp_path: Path) -> None:
    async def work(task: Task) -> None:
        for _ in range(3000):
            task.log("x" * 100_000)

    upid = await tasks.start("test", "", ROOT, work)
    await tasks.wait(upid)
    (path,) = (tmp_path / "log" / "tasks").glob("*/*")
    assert path.stat().st_size < 11 * 1024**2
    _, total = await tasks.log(upid, 0, 0)
    lines, _ = await tasks.log(upid, total - 2, 10)
    assert [line.t for line in lines] == ["the log is full: what follows was not kept", "TASK OK"]


@pytest.mark.anyio
async def test_lists_show_what_was_asked_for(tasks: Tasks) -> None:
    ok = await tasks.start("vzcreate", "100", ROOT, nothing)
    bad = await tasks.start("vzstart", "100", ADA, fail_clearly)
    odd = await tasks.start("vzstart", "1000", ROOT, warn_twice)
    for upid in (ok, bad, odd):
        await tasks.wait(upid)
    runs = await tasks.start("download", "local", ADA, forever)

    async def shown(**filters: Any) -> list[Upid]:
        return [record.upid for record in await tasks.list(**filters)]

    assert await shown() == [runs, odd, bad, ok]
    assert await shown(start=1, limit=2) == [odd, bad]
    assert await shown(source="active") == [runs]
    assert await shown(source="archive") == [odd, bad, ok]
    assert await shown(vmid=100) == [bad, ok]
    assert await shown(typefilter="vzstart") == [odd, bad]
    assert await shown(userfilter="ADA") == [runs, bad]
    assert await shown(errors=True) == [bad]
    assert await shown(statusfilter=["ok", "warning"]) == [odd, ok]
    assert await shown(until=ok.starttime - 1) == []
    assert await shown(since=ok.starttime) == [runs, odd, bad, ok]
    page, total = await tasks.page(TaskFilter(owner="ada@pve"), limit=1)
    assert ([record.upid for record in page], total) == ([runs], 2)
    page, total = await tasks.page(TaskFilter(), visible=lambda record: record.upid.user == "root@pam")
    assert total == 2


@pytest.mark.anyio
async def test_a_dead_daemons_tasks_are_ended_once(tmp_path: Path) -> None:
    store = MemoryStore()
    dead = Tasks(store, Layout(tmp_path), "node1")
    done = await dead.start("test", "", ROOT, nothing)
    await dead.wait(done)
    left = [await dead.start("vzcreate", str(vmid), ROOT, forever) for vmid in (100, 101)]

    tasks = Tasks(store, Layout(tmp_path), "node1")
    own = await tasks.start("test", "", ROOT, forever)
    ended = await tasks.recover()
    assert [record.upid for record in ended] == left
    for upid in left:
        record = await tasks.wait(upid)
        assert (record.exitstatus, record.running) == (DAEMON_DIED, False)
        assert (await tasks.log(upid))[0][-1].t == f"TASK ERROR: {DAEMON_DIED}"
    assert (await tasks.get(own)).running
    assert await tasks.recover() == []
    assert await Tasks(store, Layout(tmp_path), "node1").get(done) == await tasks.get(done)
    await tasks.shutdown()
    await dead.shutdown()


@pytest.mark.anyio
async def test_a_stopping_daemon_ends_its_tasks_and_takes_no_new_ones(tmp_path: Path) -> None:
    tasks = Tasks(MemoryStore(), Layout(tmp_path), "node1")
    upid = await tasks.start("test", "", ROOT, forever)
    await tasks.shutdown()
    assert (await tasks.get(upid)).exitstatus == DAEMON_STOPPED
    with pytest.raises(WrongState, match="stopping"):
        await tasks.start("test", "", ROOT, nothing)


@pytest.mark.anyio
async def test_a_caller_that_goes_away_does_not_stop_its_task(tasks: Tasks) -> None:
    ran = asyncio.Event()

    async def work(_task: Task) -> None:
        ran.set()

    starting = asyncio.ensure_future(tasks.start("test", "", ROOT, work))
    await asyncio.sleep(0)
    starting.cancel()
    await asyncio.wait_for(ran.wait(), 5)
    (record,) = await tasks.list()
    assert (await tasks.wait(record.upid)).exitstatus == "OK"


@pytest.mark.anyio
async def test_old_tasks_are_forgotten_with_their_logs(tmp_path: Path) -> None:
    store = MemoryStore()
    tasks = Tasks(store, Layout(tmp_path), "node1", kept=5)
    running = await tasks.start("test", "", ROOT, forever)
    upids = []
    for _ in range(30):
        upids.append(await tasks.start("test", "", ROOT, nothing))
        await tasks.wait(upids[-1])
    await asyncio.sleep(0.01)
    kept = [record.upid for record in await tasks.list(source="archive")]
    assert 5 <= len(kept) <= 10
    assert kept == list(reversed(upids))[: len(kept)]
    assert (await tasks.get(running)).running
    await tasks.shutdown()
    names = {path.name for path in (tmp_path / "log" / "tasks").glob("*/*")}
    assert names == {entry.key.removeprefix("task/") for entry in await store.list("task/")}


class FullStore(MemoryStore):
    """A store that a full disk refuses to change."""

    full = False

    async def put(self, key: str, value: str, expect: int = ANY) -> Entry:
        if self.full:
            raise NoSpace("the disk is full")
        return await super().put(key, value, expect)


@pytest.mark.anyio
async def test_an_end_that_a_full_disk_refused_is_stored_later(tmp_path: Path) -> None:
    store = FullStore()
    tasks = Tasks(store, Layout(tmp_path), "node1")

    async def fill(_task: Task) -> None:
        store.full = True

    upid = await tasks.start("test", "", ROOT, fill)
    assert (await tasks.wait(upid)).exitstatus == "OK"
    with pytest.raises(NoSpace):
        await tasks.start("test", "", ROOT, nothing)
    assert len(await tasks.list()) == 1
    assert len(list((tmp_path / "log" / "tasks").glob("*/*"))) == 1
    store.full = False
    await tasks.wait(await tasks.start("test", "", ROOT, nothing))
    again = Tasks(store, Layout(tmp_path), "node1")
    assert await again.get(upid) == await tasks.get(upid)


@pytest.mark.anyio
async def test_thousands_of_tasks_are_listed_fast(tmp_path: Path) -> None:
    store = MemoryStore()
    upid = Upid("node1", 1, 2, 1_700_000_000, "vzstart", "100", "root@pam")
    for number in range(10_000):
        one = replace(upid, starttime=upid.starttime + number)
        await store.put(f"task/{one}", '{"endtime": 1, "exitstatus": "OK"}')
    await store.put("task/odd", "{}")
    tasks = Tasks(store, Layout(tmp_path), "node1")
    (first,) = await tasks.list(limit=1)
    assert first == TaskRecord(replace(upid, starttime=upid.starttime + 9_999), 1, "OK")
    begun = time.process_time()
    await tasks.list(vmid=100, errors=True)
    assert time.process_time() - begun < 0.25


@pytest.mark.anyio
async def test_news_come_with_the_next_line_and_with_the_end(tasks: Tasks) -> None:
    go = [asyncio.Event() for _ in range(2)]

    async def work(task: Task) -> None:
        for number, event in enumerate(go):
            await event.wait()
            task.log(f"line {number}")

    upid = await tasks.start("vzstart", "100", ROOT, work)
    record, lines = await tasks.news(upid, 0, 0.01)
    assert (record.running, lines) == (True, [])
    waiting = [asyncio.create_task(tasks.news(upid, start, 30)) for start in (0, None)]
    await asyncio.sleep(0.01)
    go[0].set()
    record, lines = await waiting[0]
    assert (record.running, [line.t for line in lines]) == (True, ["line 0"])
    assert not waiting[1].done(), "who waits for the end is not told of lines"
    go[1].set()
    record, lines = await waiting[1]
    assert (record.exitstatus, lines) == ("OK", [])
    record, lines = await tasks.news(upid, 1, 30)
    assert [(line.n, line.t) for line in lines] == [(2, "line 1"), (3, "TASK OK")]
    with pytest.raises(NotFound):
        await tasks.news(str(upid).replace("100", "101"), None, 30)
