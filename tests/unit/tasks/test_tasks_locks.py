"""Guest locks: one holder at a time, whatever is cancelled, refused or broken."""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bastide.base.errors import Conflict, Locked, NoSpace
from bastide.state.memory import MemoryStore
from bastide.state.sqlite import SqliteStore
from bastide.state.store import ANY
from bastide.tasks.locks import GuestLocks

OWNER = "UPID:n1:00000001:00000002:00000003:vzcreate:100:root@pam:"


@pytest.mark.anyio
async def test_a_lock_names_its_owner_and_its_volumes_and_is_given_back() -> None:
    locks = GuestLocks(MemoryStore())
    async with locks.hold(100, OWNER, "create") as held:
        await asyncio.gather(*(held.record(f"local:100/disk-{number}") for number in range(5)))
        lock = await locks.get(100)
        assert lock is not None
        assert (lock.vmid, lock.owner, lock.action) == (100, OWNER, "create")
        assert sorted(lock.volumes) == [f"local:100/disk-{number}" for number in range(5)]
        assert abs(lock.since - time.time()) < 5
        async with locks.hold(1000, "other", "start"):
            assert [lock.vmid for lock in await locks.list()] == [100, 1000]
    assert await locks.list() == []
    with pytest.raises(RuntimeError):
        async with locks.hold(100, OWNER, "create"):
            raise RuntimeError
    assert await locks.get(100) is None


@pytest.mark.anyio
async def test_who_waits_too_long_is_told_who_works() -> None:
    locks = GuestLocks(MemoryStore())
    async with locks.hold(100, OWNER, "create"):
        with pytest.raises(Locked) as refusal:
            async with locks.hold(100, "other", "start", deadline=0.05):
                pytest.fail("two holders")
        assert str(refusal.value) == f"can't lock guest 100: {OWNER} (create) works on it"
    async with locks.hold(100, "other", "start", deadline=0.05):
        pass


@pytest.mark.anyio
async def test_a_waiter_wakes_when_the_lock_is_given_back() -> None:
    locks = GuestLocks(MemoryStore())
    waits: list[float] = []

    async def wait() -> None:
        async with locks.hold(100, "second", "start"):
            waits.append(time.perf_counter())

    async with locks.hold(100, "first", "create"):
        waiter = asyncio.create_task(wait())
        await asyncio.sleep(0.05)
        given_back = time.perf_counter()
    await waiter
    assert waits[0] - given_back < 0.5


@pytest.mark.anyio
async def test_a_broken_lock_is_not_removed_by_its_late_holder() -> None:
    locks = GuestLocks(MemoryStore())
    async with locks.hold(100, "first", "create") as first:
        await locks.break_lock(100)
        async with locks.hold(100, "second", "start"):
            with pytest.raises(Conflict):
                await first.record("local:100/disk-0")
            await first.release()
            lock = await locks.get(100)
            assert lock is not None
            assert lock.owner == "second"
    assert await locks.list() == []


@pytest.mark.anyio
async def test_locks_outlive_their_daemon(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "store.db")
    holder = GuestLocks(store).hold(100, OWNER, "create")
    await (await holder.__aenter__()).record("local:100/disk-0")
    await store.close()
    store = await SqliteStore.open(tmp_path / "store.db")
    locks = GuestLocks(store)
    (lock,) = await locks.list()
    assert (lock.owner, lock.volumes) == (OWNER, ("local:100/disk-0",))
    await locks.break_lock(100)
    async with locks.hold(100, "next", "create", deadline=0):
        pass
    await store.close()


class FullStore(MemoryStore):
    """A store whose deletions a full disk refuses for a while."""

    full = False

    async def delete(self, key: str, expect: int = ANY) -> None:
        if self.full:
            raise NoSpace("the disk is full")
        await super().delete(key, expect)


@pytest.mark.anyio
async def test_a_full_disk_delays_the_release_and_hides_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bastide.tasks.locks._RETRIES", (0.01,) * 10)
    store = FullStore()
    locks = GuestLocks(store)

    async def fail() -> None:
        async with locks.hold(100, OWNER, "create"):
            store.full = True
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await fail()
    store.full = False
    async with locks.hold(100, "next", "start", deadline=2):
        pass


STEP = st.tuples(
    st.integers(0, 8).map(lambda n: n / 1000),  # when it comes
    st.integers(0, 4).map(lambda n: n / 1000),  # how long it works
    st.one_of(st.none(), st.integers(0, 6).map(lambda n: n / 1000)),  # when it is cancelled
    st.sampled_from([0.001, 0.004, 5.0]),  # how long it waits
    st.sampled_from([100, 101]),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(STEP, min_size=2, max_size=12))
def test_never_two_holders_and_never_a_lock_left(
    steps: Sequence[tuple[float, float, float | None, float, int]],
) -> None:
    async def main() -> None:
        locks = GuestLocks(MemoryStore())
        holders: dict[int, int] = {}

        async def use(name: str, come: float, work: float, deadline: float, vmid: int) -> None:
            await asyncio.sleep(come)
            async with locks.hold(vmid, name, "test", deadline=deadline) as held:
                assert vmid not in holders
                holders[vmid] = 1
                try:
                    await held.record(f"local:{name}")
                    await asyncio.sleep(work)
                finally:
                    del holders[vmid]

        tasks = []
        for number, (come, work, cancel, deadline, vmid) in enumerate(steps):
            task = asyncio.create_task(use(str(number), come, work, deadline, vmid))
            if cancel is not None:
                asyncio.get_running_loop().call_later(cancel, task.cancel)
            tasks.append(task)
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            assert result is None or isinstance(result, Locked | asyncio.CancelledError)
        await asyncio.sleep(0.01)
        assert await locks.list() == []

    asyncio.run(main())


@pytest.mark.anyio
async def test_a_lock_is_taken_with_its_volumes_and_given_back_in_one_commit_with_what_follows(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "store.db")
    locks = GuestLocks(store)
    changes = store.watch("")
    commits: list[int] = []
    store._commit, commit = (lambda batch: (commits.append(len(batch)), commit(batch))[1]), store._commit

    async def work() -> None:
        async with locks.hold(100, OWNER, "create", volumes=["local:a", "local:b"]) as held:
            await held.record("local:a")
            lock = await locks.get(100)
            assert lock is not None
            assert lock.volumes == ("local:a", "local:b")

    await asyncio.wait({asyncio.create_task(work())})
    await store.put("task/x", "ended")
    assert commits == [1, 2]
    assert [(await anext(changes)).key for _ in range(3)] == ["lock/guest/100", "lock/guest/100", "task/x"]
    assert await locks.list() == []
    await store.close()
