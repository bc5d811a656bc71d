"""Schedules: what is due is begun once, also after a restart, a jump of the clock, or a run that goes on."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from bastide.base.errors import HostFailure, NotFound
from bastide.base.ids import Upid
from bastide.host import facts
from bastide.model.access import ROOT
from bastide.model.backup_options import BackupJob
from bastide.model.guest import Guest
from bastide.operations.backup import jobs, schedule
from bastide.operations.rooms import Rooms
from bastide.tasks.tasks import Task
from framework.rooms import fake_rooms

HOUR, DAY = 3600, 86_400
NOON = int(datetime(2026, 3, 2, 12, tzinfo=UTC).timestamp())
NIGHT = NOON + 14 * HOUR + HOUR // 2  # 02:30


class World:
    """A daemon's scheduler over a clock that the test sets; what it begins ends when `go_on` is set."""

    def __init__(self, rooms: Rooms) -> None:
        self.rooms = rooms
        self.now = NOON
        self.begun: list[str] = []
        self.upids: list[Upid] = []
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.fails = False
        self.restart()

    def restart(self) -> None:
        self.scheduler = schedule.Scheduler(self.rooms, [jobs.source(self.start)], lambda: self.now)

    async def start(self, rooms: Rooms, job: BackupJob) -> Upid:
        if self.fails:
            raise HostFailure("no more tasks")

        async def work(_task: Task) -> None:
            await self.go_on.wait()

        self.begun.append(job.id or "")
        upid = await rooms.tasks.start("vzdump", "", ROOT, work)
        self.upids.append(upid)
        return upid

    async def look(self, at: int) -> Sequence[str]:
        self.now, self.begun = at, []
        await self.scheduler.look()
        if self.go_on.is_set():
            for upid in self.upids:
                await self.rooms.tasks.wait(upid)
        return self.begun


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(facts, "zone", lambda: ZoneInfo("UTC"))
    return World(await fake_rooms(tmp_path / "root"))


async def job(world: World, job_id: str = "nightly", **values: object) -> None:
    await jobs.create_job(world.rooms, BackupJob.parse({"id": job_id, "all": 1, "schedule": "2:30", **values}))
    await schedule.settle(world.rooms, f"backupjob/{job_id}", world.now)


@pytest.mark.anyio
async def test_it_runs_at_its_time_and_once(world: World) -> None:
    await job(world)
    assert await world.look(NOON) == []
    assert await world.look(NIGHT - 1) == []
    assert await world.look(NIGHT + 3) == ["nightly"]
    assert await world.look(NIGHT + 4) == []
    assert await world.look(NIGHT + HOUR) == []
    assert await world.look(NIGHT + DAY) == ["nightly"]
    ran = await schedule.last(world.rooms, "backupjob/nightly")
    assert ran is not None
    assert (ran.upid, ran.started) == (str(world.upids[-1]), NIGHT + DAY)


@pytest.mark.anyio
async def test_what_was_missed_runs_once_if_asked_and_else_not(world: World) -> None:
    await job(world)
    await job(world, "caring", **{"repeat-missed": 1})
    await world.look(NOON)
    world.restart()
    assert await world.look(NIGHT + 5 * DAY + HOUR) == ["caring"]
    assert await world.look(NIGHT + 5 * DAY + HOUR + 5) == []
    assert sorted(await world.look(NIGHT + 6 * DAY)) == ["caring", "nightly"]


@pytest.mark.anyio
async def test_a_short_restart_at_the_very_time_misses_nothing(world: World) -> None:
    await job(world)
    world.restart()
    assert await world.look(NIGHT + 60) == ["nightly"]


@pytest.mark.anyio
async def test_a_machine_that_slept_makes_up_for_it_once_if_asked(world: World) -> None:
    await job(world)
    await job(world, "caring", **{"repeat-missed": 1})
    await world.look(NOON)
    assert await world.look(NIGHT + 3 * DAY + HOUR) == ["caring"]
    assert await world.look(NIGHT + 3 * DAY + HOUR + 5) == []
    assert sorted(await world.look(NIGHT + 4 * DAY)) == ["caring", "nightly"]


@pytest.mark.anyio
async def test_a_boot_with_a_clock_that_is_not_set_yet_misses_nothing(world: World) -> None:
    await job(world, **{"repeat-missed": 1})
    assert await world.look(NIGHT) == ["nightly"]
    world.restart()
    for second in (0, 5, 10):
        assert await world.look(second) == []
    assert await world.look(NIGHT + HOUR) == []
    assert await world.look(NIGHT + DAY) == ["nightly"]


@pytest.mark.anyio
async def test_no_two_runs_at_once(world: World) -> None:
    await job(world, schedule="*:0/5")
    world.go_on.clear()
    await world.look(NOON)
    assert await world.look(NOON + 300) == ["nightly"]
    assert await world.look(NOON + 600) == []
    world.go_on.set()
    assert await world.look(NOON + 601) == []  # what was left out is not made up for
    assert await world.look(NOON + 900) == ["nightly"]


@pytest.mark.anyio
async def test_a_clock_that_goes_back(world: World) -> None:
    await job(world)
    assert await world.look(NIGHT) == ["nightly"]
    assert await world.look(NIGHT - 30) == []
    assert await world.look(NIGHT) == []  # a correction by seconds does not repeat it
    assert await world.look(NIGHT - 400 * DAY - HOUR) == []
    assert await world.look(NIGHT - 400 * DAY) == ["nightly"]  # nor does a wrong year stop it


@pytest.mark.anyio
@pytest.mark.parametrize("back", [HOUR, 5 * HOUR, DAY])
async def test_a_clock_that_is_set_back_by_a_day_repeats_nothing(world: World, back: int) -> None:
    """With `_SET_BACK` of an hour this fails: the night comes a second time, and the job with it."""
    await job(world)
    assert await world.look(NIGHT) == ["nightly"]
    assert await world.look(NIGHT + 10 - back) == []
    assert await world.look(NIGHT + 10) == []
    assert await world.look(NIGHT + DAY) == ["nightly"]


@pytest.mark.anyio
async def test_a_clock_that_goes_forward_a_day_and_back(world: World) -> None:
    await job(world)
    await world.look(NOON)
    assert await world.look(NIGHT + DAY + HOUR) == []  # two nights were missed
    assert await world.look(NIGHT + HOUR) == []
    assert await world.look(NIGHT + DAY) == []
    assert await world.look(NIGHT + 2 * DAY) == ["nightly"]


@pytest.mark.anyio
async def test_a_disabled_job_rests_and_nothing_is_due_when_it_is_enabled(world: World) -> None:
    await job(world, enabled=0)
    assert await world.look(NIGHT) == []
    world.now = NIGHT + HOUR
    await jobs.update_job(world.rooms, "nightly", {"enabled": 1})
    await schedule.settle(world.rooms, "backupjob/nightly", world.now)
    assert await world.look(NIGHT + HOUR) == []
    assert await world.look(NIGHT + DAY) == ["nightly"]


@pytest.mark.anyio
async def test_a_new_schedule_counts_from_now(world: World) -> None:
    await job(world)
    await jobs.update_job(world.rooms, "nightly", {"schedule": "13:00"})
    settled = await schedule.last(world.rooms, "backupjob/nightly")
    assert settled is not None
    assert settled.until > NOON + DAY  # the present of this machine
    await schedule.settle(world.rooms, "backupjob/nightly", NOON)
    assert await world.look(NOON + HOUR) == ["nightly"]
    await jobs.update_job(world.rooms, "nightly", {"comment": "the same times"})
    again = await schedule.last(world.rooms, "backupjob/nightly")
    assert again is not None
    assert again.until == NOON + HOUR


@pytest.mark.anyio
async def test_a_run_goes_on_when_its_job_is_removed(world: World) -> None:
    await job(world)
    world.go_on.clear()
    await world.look(NIGHT)
    await jobs.delete_job(world.rooms, "nightly")
    assert (await world.rooms.tasks.get(world.upids[0])).running
    world.go_on.set()
    assert (await world.rooms.tasks.wait(world.upids[0])).exitstatus == "OK"
    with pytest.raises(NotFound, match="no such job 'nightly'"):
        await jobs.get_job(world.rooms, "nightly")
    assert await world.look(NIGHT + DAY) == []


@pytest.mark.anyio
async def test_a_failing_start_stops_neither_the_others_nor_the_next_time(world: World) -> None:
    await job(world)
    world.fails = True
    assert await world.look(NIGHT) == []
    world.fails = False
    assert await world.look(NIGHT + 1) == []
    assert await world.look(NIGHT + DAY) == ["nightly"]


@pytest.mark.anyio
async def test_a_record_that_cannot_be_read_stops_no_other_kind(world: World) -> None:
    await world.rooms.store.put("backupjob/broken", "{")
    begun: list[str] = []

    async def start() -> Upid:
        begun.append("other")
        raise RuntimeError("a fault of ours")

    async def other(_rooms: Rooms) -> Sequence[schedule.Timed]:
        return [schedule.Timed("other/one", "hourly", start)]

    await schedule.settle(world.rooms, "other/one", NOON)
    scheduler = schedule.Scheduler(world.rooms, [jobs.source(world.start), other], lambda: NOON + HOUR)
    await scheduler.look()
    assert begun == ["other"]


@pytest.mark.anyio
async def test_what_is_there_for_a_moment_is_not_saved(world: World) -> None:
    for vmid in (100, 910_000_000):
        await world.rooms.guests.create(Guest(vmid, "lxc", "pve", {"hostname": "x"}))
    await world.rooms.store.put("trying/910000000", "x")
    assert [guest.vmid for guest in await jobs.not_backed_up(world.rooms)] == [100]
    await job(world)
    assert [guest.vmid for guest in await jobs.saved(world.rooms, await jobs.get_job(world.rooms, "nightly"))] == [100]


@pytest.mark.anyio
async def test_another_nodes_jobs_are_not_ours(world: World) -> None:
    await job(world)
    entry = await world.rooms.store.get("backupjob/nightly")
    assert entry is not None
    await world.rooms.store.put(entry.key, entry.value.replace('"id"', '"node": "other", "id"'))
    assert await world.look(NIGHT) == []


@pytest.mark.anyio
async def test_when_it_runs_next(world: World) -> None:
    await job(world)
    assert await schedule.next_run(world.rooms, "backupjob/nightly", "2:30", NOON) == NIGHT
    await world.look(NIGHT)
    assert await schedule.next_run(world.rooms, "backupjob/nightly", "2:30", NIGHT) == NIGHT + DAY
    assert await schedule.next_run(world.rooms, "backupjob/new", "2:30", NIGHT) == NIGHT + DAY
    assert await schedule.next_run(world.rooms, "backupjob/nightly", "2015-10-21", NIGHT) is None
