"""No address takes all the places."""

import asyncio

import pytest

from bastide.web.shares import Shares

pytestmark = pytest.mark.anyio


async def test_one_address_does_not_take_anothers_places() -> None:
    shares = Shares(most=2)
    async with shares.place("192.0.2.1", 10) as first, shares.place("192.0.2.1", 10) as second:
        assert (first, second) == (True, True)
        async with shares.place("192.0.2.1", 0.01) as third:
            assert not third
        async with shares.place("192.0.2.2", 0.01) as other:
            assert other
    async with shares.place("192.0.2.1", 0.01) as again:
        assert again


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
    ],
)
async def test_a_client_is_an_address_or_a_network(one: str, other: str, same: bool) -> None:
    shares = Shares(most=1)
    async with shares.place(one, 10), shares.place(other, 0.01) as free:
        assert free is not same


async def test_who_waits_gets_the_place_that_is_given_back() -> None:
    shares = Shares(most=1)

    async def wait() -> bool:
        async with shares.place("192.0.2.1", 10) as free:
            return free

    async with shares.place("192.0.2.1", 10):
        waiting = asyncio.create_task(wait())
        await asyncio.sleep(0)
    assert await waiting
    assert not shares._turns
