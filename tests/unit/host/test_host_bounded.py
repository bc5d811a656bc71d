"""Blocking calls in threads of their own, which are used again."""

import asyncio
import threading

import pytest

from bastide.base.errors import DeadlineExceeded
from bastide.host.bounded import Bounded, in_thread

pytestmark = pytest.mark.anyio


async def test_calls_one_after_the_other_share_a_thread() -> None:
    await in_thread(lambda: None)
    threads = {await in_thread(threading.get_ident) for _ in range(50)}
    assert threading.get_ident() not in threads
    assert len(threads) == 1


async def test_calls_at_once_each_have_a_thread_and_few_stay() -> None:
    together = threading.Barrier(20)
    identities = await asyncio.gather(
        *(in_thread(lambda: (together.wait(10), threading.get_ident())) for _ in range(20))
    )
    assert len({identity for _, identity in identities}) == 20
    async with asyncio.timeout(10):
        while sum(thread.name == "bounded" for thread in threading.enumerate()) > 10:
            await asyncio.sleep(0.01)


async def test_a_failure_leaves_the_thread_usable() -> None:
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            await in_thread(lambda: 1 // 0)
    assert await in_thread(lambda: 5) == 5


async def test_a_call_that_hangs_is_left_and_refuses_the_next_one_but_not_others() -> None:
    go = threading.Event()
    bounded, other = Bounded("storage 'a'", deadline=0.05), Bounded("storage 'b'", deadline=5)
    try:
        with pytest.raises(DeadlineExceeded):
            await bounded.call(go.wait)
        with pytest.raises(DeadlineExceeded):
            await bounded.call(lambda: None)
        assert await other.call(lambda: 7) == 7
    finally:
        go.set()
    async with asyncio.timeout(5):
        while bounded.hangs:
            await asyncio.sleep(0.01)
    assert await bounded.call(lambda: 8) == 8
