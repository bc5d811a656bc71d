"""The wall clock of a daemon jumps by a day and back: nothing is started and nothing runs twice.

libfaketime moves what the daemon alone takes for the time (faketime(1)); its waits keep to the monotonic clock.
"""

import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from framework.host import Host
from framework.patience import PATIENCE

pytestmark = pytest.mark.system

LIBRARY = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")
PASSWORD = "correct horse 1"
DAY = 86400
LOOKS = 11.0
"""Seconds in which the scheduler looks at least twice."""


class Clock:
    """A host whose daemon's clock is `offset` seconds from the machine's."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self._file = host.root / "clock"
        self.offset = 0
        self.set(0)
        host.stop()
        before = host.environment
        extra = {
            "LD_PRELOAD": str(LIBRARY),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_NO_CACHE": "1",
        }
        host.environment = lambda: {**before(), **extra}  # type: ignore[method-assign]
        host.start()

    def set(self, offset: int) -> None:
        self.offset = offset
        new = self._file.with_suffix(".new")
        new.write_text(f"{offset:+d}\n")
        new.replace(self._file)

    def now(self) -> int:
        return int(time.time()) + self.offset

    def runs(self) -> int:
        """How many backups have begun."""
        return len(self.host.get(f"/nodes/{self.host.node}/tasks", typefilter="vzdump", source="all", limit=100))

    def log_in(self) -> str:
        with httpx.Client(verify=False, timeout=30 * PATIENCE) as client:
            where = f"https://127.0.0.1:{self.host.port}/api2/json"
            answer = client.post(f"{where}/access/ticket", data={"username": "clock@pve", "password": PASSWORD})
            assert answer.status_code == 200, answer.reason_phrase
            return str(answer.json()["data"]["ticket"])

    def accepts(self, ticket: str) -> bool:
        with httpx.Client(verify=False, timeout=30 * PATIENCE, cookies={"PVEAuthCookie": ticket}) as client:
            return client.get(f"https://127.0.0.1:{self.host.port}/api2/json/version").status_code == 200


@pytest.fixture
def clock(own_host: Host) -> Iterator[Clock]:
    """A daemon whose clock can be moved."""
    assert LIBRARY.exists(), "install Debian's faketime"
    made = Clock(own_host)
    yield made
    made.set(0)


def until(what: Any, seconds: float) -> None:
    deadline = time.monotonic() + seconds * PATIENCE
    while not what():
        assert time.monotonic() < deadline, "it did not come to be"
        time.sleep(0.25)


@pytest.mark.slow
def test_jumps_of_a_day_start_nothing_and_repeat_nothing(clock: Clock) -> None:
    """With `_SET_BACK` of an hour, or without what is known of the last run, this fails."""
    host = clock.host
    host.post("/access/users", userid="clock@pve", password=PASSWORD)
    resting = host.create(onboot=1)
    due = (datetime.now().astimezone() + timedelta(minutes=90)).replace(second=0, microsecond=0)
    host.post("/cluster/backup", id="daily", schedule=due.strftime("%H:%M"), vmid=str(resting), storage="local")
    present = clock.log_in()

    clock.set(int(due.timestamp() - time.time()) - 2)
    until(lambda: clock.runs() == 1, 60)
    clock.set(clock.offset + DAY + 3600)  # the next one is late by an hour, and missed
    until(lambda: host.get("/cluster/backup/daily")["next-run"] > due.timestamp() + 1.5 * DAY, 60)
    assert clock.runs() == 1
    assert not clock.accepts(present), "a ticket of yesterday"
    tomorrows = clock.log_in()
    assert clock.accepts(tomorrows)

    clock.set(clock.offset - DAY)
    time.sleep(LOOKS)
    assert clock.runs() == 1
    assert not clock.accepts(tomorrows), "a ticket of tomorrow"
    assert clock.accepts(clock.log_in())
    clock.set(int(due.timestamp() - time.time()) - 2)  # the same minute comes again
    time.sleep(LOOKS)
    assert clock.runs() == 1

    assert host.get(host.path(resting, "/status/current"))["status"] == "stopped"
    assert host.get(f"/nodes/{host.node}/rrddata", timeframe="hour")
    numbers = [row["id"] for row in host.get("/bastide/audit", limit=500)]
    assert numbers == sorted(set(numbers), reverse=True)
    assert "internal error" not in host.daemon_log()
