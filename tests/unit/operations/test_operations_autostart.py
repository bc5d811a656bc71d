"""Starting and stopping all guests: in their order, each failure a warning and no end."""

from pathlib import Path

import pytest

from bastide.base.errors import HostFailure
from bastide.guest.fake import FakeEngine
from bastide.model.access import ROOT
from bastide.model.container import ContainerOptions
from bastide.operations import autostart
from bastide.operations.ct.create import create_container
from framework.rooms import TEMPLATE, fake_rooms

pytestmark = pytest.mark.anyio


async def test_the_order_is_kept_and_failures_are_warnings(tmp_path: Path) -> None:
    rooms = await fake_rooms(tmp_path)
    for vmid, startup in ((100, None), (101, "order=2"), (102, "order=1")):
        options = {"unprivileged": 1, "rootfs": "local:0", "onboot": int(vmid != 100), "startup": startup}
        given = ContainerOptions.parse({key: value for key, value in options.items() if value is not None})
        await rooms.tasks.wait(await create_container(rooms, ROOT, vmid, TEMPLATE, given))
    engine = rooms.containers
    assert isinstance(engine, FakeEngine)
    engine.fail_next["start"] = HostFailure("no")

    started = await rooms.tasks.wait(await autostart.start_all(rooms, ROOT))
    assert started.exitstatus == "WARNINGS: 1"
    assert rooms.containers.running() == {101}

    started = await rooms.tasks.wait(await autostart.start_all(rooms, ROOT, force=True))
    assert started.exitstatus == "OK"
    assert rooms.containers.running() == {100, 101, 102}

    stopped = await autostart.stop_all(rooms, ROOT, vmids=[101, 102])
    lines, _ = await rooms.tasks.log(stopped, 0, 50) if await rooms.tasks.wait(stopped) else ([], 0)
    assert [line.t.split()[3] for line in lines if line.t.startswith("shutting")] == ["101", "102"]
    assert rooms.containers.running() == {100}
