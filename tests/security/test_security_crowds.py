"""Many clients at once that do nothing wrong: all are served, and nothing is held when they have gone.

Attack class 30. The default run has a small crowd; the slow one a thousand for a minute, who are served in two seconds.
"""

import asyncio
import ssl
import time

import pytest

from framework.host import Host
from framework.patience import PATIENCE
from framework.web import descriptors, web_pid

pytestmark = [pytest.mark.system, pytest.mark.anyio]

_ASKED = b"GET /api2/json/version HTTP/1.1\r\nHost: x\r\n\r\n"
_PAUSE = 3.0  # as a page that asks again from time to time


async def _client(host: Host, context: ssl.SSLContext, until: float, number: int, times: list[float]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", host.port, ssl=context, ssl_handshake_timeout=120)
    await asyncio.sleep(number % 100 / 100 * _PAUSE)
    while time.monotonic() < until:
        began = time.monotonic()
        writer.write(_ASKED)
        head = await reader.readuntil(b"\r\n\r\n")
        times.append(time.monotonic() - began)
        assert head.startswith(b"HTTP/1.1 401 No ticket\r\n"), head
        await asyncio.sleep(_PAUSE)
    writer.close()


async def _crowd(host: Host, clients: int, seconds: float) -> list[float]:
    """The times of all answers, in order of their length; any other answer, or none, fails."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    times: list[float] = []
    until = time.monotonic() + seconds
    async with asyncio.TaskGroup() as group:
        for number in range(clients):
            group.create_task(_client(host, context, until, number, times))
            if number % 20 == 19:
                await asyncio.sleep(0.1)
    return sorted(times)


async def _back(host: Host, before: tuple[int, int]) -> None:
    """Wait until both processes hold what they held, but for some streams that wait for the next request."""
    deadline = time.monotonic() + 60 * PATIENCE
    while (_held(host)[0] > before[0] + 70 or _held(host)[1] > before[1] + 70) and time.monotonic() < deadline:
        await asyncio.sleep(0.2)
    assert _held(host)[0] <= before[0] + 70
    assert _held(host)[1] <= before[1] + 70


def _held(host: Host) -> tuple[int, int]:
    assert host.process is not None
    return descriptors(web_pid(host)), descriptors(host.process.pid)


async def test_a_crowd_is_served(host: Host) -> None:
    before = _held(host)
    times = await _crowd(host, 150, 6)
    assert len(times) >= 150
    await _back(host, before)


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_a_thousand_clients_are_served_for_a_minute(host: Host) -> None:
    before = _held(host)
    times = await _crowd(host, 1000, 90)
    print(f"{len(times)} answers, p50 {times[len(times) // 2]:.3f} s, p99 {times[int(len(times) * 0.99)]:.3f} s")
    assert times[int(len(times) * 0.99)] < 2 * PATIENCE
    await _back(host, before)
