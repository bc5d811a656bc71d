"""Guessing passwords over the network: a thousand of them, and what the time of an answer tells.

Attack class 19. Second factors are in `test_security_factors.py`.
"""

import asyncio
import statistics
import time
from collections import Counter
from collections.abc import Iterator

import httpx
import pytest

from framework.host import Host

pytestmark = [pytest.mark.system, pytest.mark.anyio]

RIGHT = "right-password-of-known"
_AT_ONCE = 100


@pytest.fixture
def known(host: Host) -> Iterator[str]:
    host.post("/access/users", userid="known@pve", password=RIGHT)
    yield "known@pve"
    host.delete("/access/users/known@pve")


def client(host: Host) -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=_AT_ONCE, max_keepalive_connections=_AT_ONCE)
    url = f"https://127.0.0.1:{host.port}/api2/json"
    return httpx.AsyncClient(base_url=url, verify=False, timeout=120, limits=limits)


async def guess(remote: httpx.AsyncClient, user: str, password: str) -> tuple[int, float]:
    """The status of a login and how many seconds its answer took."""
    began = time.monotonic()
    answer = await remote.post("/access/ticket", data={"username": user, "password": password})
    return answer.status_code, time.monotonic() - began


async def test_a_thousand_guesses_find_nothing_and_stop_being_looked_at(host: Host, known: str) -> None:
    """Without `Throttle.blocked` the right password, at the end of them, is let in."""
    async with client(host) as remote:
        first = await guess(remote, known, RIGHT)
        assert first[0] == 200
        turn = asyncio.Semaphore(_AT_ONCE)

        async def try_(number: int) -> int:
            async with turn:
                return (await guess(remote, known, f"wrong-{number}"))[0]

        seen = Counter(await asyncio.gather(*(try_(number) for number in range(1000))))
        assert seen == {401: 1000}
        assert (await guess(remote, known, RIGHT))[0] == 401, "the right password came too early, and was let in"
        assert (await guess(remote, "root@pam!x", "y"))[0] == 401


async def test_the_time_of_an_answer_does_not_tell_who_is_there(host: Host) -> None:
    """Without the pace of failed logins, and the hash that is made for nobody, the medians lie far apart.

    10 ms on a quiet machine. On a busy one two who are not there are as far apart from each other.
    """
    apart = []
    async with client(host) as remote:
        for number in range(4):
            there, absent, other = (f"{name}{number}@pve" for name in ("there", "absent", "other"))
            host.post("/access/users", userid=there, password=RIGHT)
            times: dict[str, list[float]] = {absent: [], there: [], other: []}
            for guessed in range(5):  # which are all looked at: later ones may not be
                answers = await asyncio.gather(*(guess(remote, user, f"w{guessed}") for user in times))
                for user, (status, seconds) in zip(times, answers, strict=True):
                    assert status == 401
                    times[user].append(seconds)
            host.delete(f"/access/users/{there}")
            noise = max(times[absent] + times[other]) - min(times[absent] + times[other])
            apart.append(
                (abs(statistics.median(times[there]) - statistics.median(times[absent] + times[other])), noise)
            )
            if apart[-1][0] < 0.010 + noise:
                return
    raise AssertionError(f"the medians differ by so many seconds, and those of nobody: {apart}")
