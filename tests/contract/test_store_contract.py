"""What every store does, whatever it keeps its entries in."""

import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from bastide.base.errors import Conflict, HostFailure
from bastide.state.memory import MemoryStore
from bastide.state.sqlite import SqliteStore
from bastide.state.store import ABSENT, ANY, Change, Store

Maker = Callable[[Path], Awaitable[Store]]


async def make_memory(_folder: Path) -> Store:
    return MemoryStore()


async def make_sqlite(folder: Path) -> Store:
    return await SqliteStore.open(folder / "store.db")


MAKERS = {"memory": make_memory, "sqlite": make_sqlite}


@pytest.fixture(params=MAKERS)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    made = await MAKERS[request.param](tmp_path)
    yield made
    await made.close()


@pytest.mark.anyio
async def test_what_was_put_is_there(store: Store) -> None:
    assert await store.get("a") is None
    entry = await store.put("a", "one")
    assert (entry.key, entry.value, entry.revision) == ("a", "one", 1)
    assert await store.get("a") == entry
    assert (await store.put("b", "")).revision == 2
    await store.delete("a")
    assert await store.get("a") is None
    assert (await store.put("a", "again")).revision == 4


@pytest.mark.anyio
async def test_compare_and_swap_refuses_what_was_not_read(store: Store) -> None:
    first = await store.put("a", "1", ABSENT)
    with pytest.raises(Conflict, match="already exists"):
        await store.put("a", "2", ABSENT)
    second = await store.put("a", "2", first.revision)
    for stale in (first.revision, second.revision + 1):
        with pytest.raises(Conflict):
            await store.put("a", "3", stale)
        with pytest.raises(Conflict):
            await store.delete("a", stale)
    with pytest.raises(Conflict):
        await store.delete("a", ABSENT)
    with pytest.raises(Conflict):
        await store.delete("b", second.revision)
    await store.delete("b", ANY)
    await store.delete("b", ABSENT)
    assert await store.get("a") == second
    await store.delete("a", second.revision)
    assert await store.list("") == []


@pytest.mark.anyio
async def test_list_is_ordered_and_ends_with_the_prefix(store: Store) -> None:
    keys = ["a", "a/", "a/1", "a/10", "a/2", "a/\U0010ffff", "a/\U0010ffff\U0010ffff", "a0", "b"]
    for key in reversed(keys):
        await store.put(key, key)
    assert [entry.key for entry in await store.list("")] == keys
    assert [entry.key for entry in await store.list("a/")] == keys[1:7]
    assert [entry.key for entry in await store.list("a/\U0010ffff")] == keys[5:7]
    assert await store.list("c") == []


@pytest.mark.anyio
async def test_of_many_writers_one_wins(store: Store) -> None:
    results = await asyncio.gather(
        *(store.put("a", str(number), ABSENT) for number in range(20)), return_exceptions=True
    )
    won = [result for result in results if not isinstance(result, BaseException)]
    assert len(won) == 1
    assert all(isinstance(result, Conflict) for result in results if result is not won[0])
    assert await store.get("a") == won[0]


@pytest.mark.anyio
async def test_watch_sees_each_change_below_its_prefix_once_and_in_order(store: Store) -> None:
    await store.put("a/0", "before")
    watch = store.watch("a/")
    await asyncio.gather(*(store.put(f"a/{number}", "x") for number in range(300)), store.put("b", "no"))
    await store.delete("a/7")
    await store.delete("a/7")
    seen = [await anext(watch) for _ in range(301)]
    assert [change.revision for change in seen] == sorted({change.revision for change in seen})
    assert {change.key for change in seen} == {f"a/{number}" for number in range(300)}
    assert (seen[-1].key, seen[-1].value) == ("a/7", None)
    waiting = asyncio.ensure_future(anext(watch))
    await asyncio.sleep(0)
    entry = await store.put("a/next", "value")
    assert await waiting == Change("a/next", "value", entry.revision)


@pytest.mark.anyio
async def test_closing_ends_watches_and_refuses_writes(store: Store) -> None:
    watch = store.watch("")
    waiting = asyncio.ensure_future(anext(watch, None))
    await asyncio.sleep(0)
    await store.close()
    assert await waiting is None
    with pytest.raises(HostFailure, match="closed"):
        await store.put("a", "1")


@pytest.mark.anyio
@pytest.mark.parametrize(("key", "value"), [("", "x"), ("a\n", "x"), ("a" * 2000, "x"), ("a", "\ud800")])
async def test_what_cannot_be_kept_is_refused_alone(store: Store, key: str, value: str) -> None:
    good = asyncio.ensure_future(store.put("good", "1"))
    with pytest.raises(ValueError, match=r"key|UTF-8"):
        await store.put(key, value)
    assert (await good).value == "1"


HOW = st.sampled_from(["any", "right", "absent", "wrong"])
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
KEYS = st.sampled_from(["a", "a/1", "a/2", "ab", "b/\u00e9"])


class StoreAgainstDict(RuleBasedStateMachine):
    """A store does what a dictionary of (value, revision) does, also after it was closed and opened."""

    maker: Maker
    durable: bool

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = tempfile.TemporaryDirectory(prefix="store-")
        self.store: Any = self.run(type(self).maker(Path(self.folder.name)))
        self.model: dict[str, tuple[str, int]] = {}
        self.revision = 0

    def run(self, work: Any) -> Any:
        return self.loop.run_until_complete(work)

    def teardown(self) -> None:
        self.run(self.store.close())
        self.run(self.loop.shutdown_default_executor())
        self.loop.close()
        self.folder.cleanup()

    def expected(self, key: str, how: str) -> int:
        revision = self.model.get(key, ("", ABSENT))[1]
        return {"any": ANY, "right": revision, "absent": ABSENT, "wrong": revision + 1}[how]

    def allowed(self, key: str, expect: int) -> bool:
        return expect in (ANY, self.model.get(key, ("", ABSENT))[1])

    @rule(
        key=KEYS,
        value=st.text(st.characters(exclude_categories=["Cs"])),
        how=st.sampled_from(["any", "right", "absent", "wrong"]),
    )
    def put(self, key: str, value: str, how: str) -> None:
        expect = self.expected(key, how)
        try:
            self.run(self.store.put(key, value, expect))
        except Conflict:
            assert not self.allowed(key, expect)
        else:
            assert self.allowed(key, expect)
            self.revision += 1
            self.model[key] = (value, self.revision)

    @rule(key=KEYS, how=HOW)
    def delete(self, key: str, how: str) -> None:
        expect = self.expected(key, how)
        try:
            self.run(self.store.delete(key, expect))
        except Conflict:
            assert not self.allowed(key, expect)
        else:
            assert self.allowed(key, expect)
            self.revision += self.model.pop(key, None) is not None

    @precondition(lambda self: self.durable)
    @rule()
    def reopen(self) -> None:
        self.run(self.store.close())
        self.store = self.run(type(self).maker(Path(self.folder.name)))

    @invariant()
    def same(self) -> None:
        for prefix in ("", "a", "a/", "b/"):
            found = [(entry.key, entry.value, entry.revision) for entry in self.run(self.store.list(prefix))]
            assert found == [(key, *self.model[key]) for key in sorted(self.model) if key.startswith(prefix)]


class MemoryAgainstDict(StoreAgainstDict):
    maker = staticmethod(make_memory)
    durable = False


class SqliteAgainstDict(StoreAgainstDict):
    maker = staticmethod(make_sqlite)
    durable = True


TestMemoryAgainstDict = MemoryAgainstDict.TestCase
TestMemoryAgainstDict.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)
TestSqliteAgainstDict = SqliteAgainstDict.TestCase
TestSqliteAgainstDict.settings = settings(
    max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
