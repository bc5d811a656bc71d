"""What a host has room for, from its guests and storages; placements in a process of their own; over the API."""

import time
from dataclasses import replace
from pathlib import Path

import pytest

from bastide.base.units import GIB
from bastide.model.access import ROOT
from bastide.model.capacity import Example
from bastide.model.placement import PlacementProblem
from bastide.model.vm import VmOptions
from bastide.operations.architect import capacity
from bastide.operations.vm import create
from framework.api import Api, call
from framework.rooms import fake_rooms

pytestmark = pytest.mark.anyio

PROBLEM = {
    "hosts": [{"name": name, "cores": 4, "memory": "8G", "disk": "100G"} for name in ("a", "b")],
    "guests": [{"name": name, "cores": 1, "memory": "2G", "host": "gone"} for name in ("x", "y")],
    "apart": [["x", "y"]],
}


async def test_what_guests_are_promised_counts_running_or_not(tmp_path: Path) -> None:
    rooms = await fake_rooms(tmp_path)
    before = await capacity.capacity(rooms, Example())
    options = VmOptions.parse({"memory": "1024", "cores": "3", "scsi0": "local:2"})
    await rooms.tasks.wait(await create.create_vm(rooms, ROOT, 100, options))
    after = await capacity.capacity(rooms, Example())
    assert after.guests == {"ct": 0, "vm": 1}
    assert after.memory.promised - before.memory.promised == GIB
    assert after.cores.promised - before.cores.promised == 3
    assert after.storages[0].space.promised - before.storages[0].space.promised == 2 * GIB
    assert [fit.kind for fit in after.fits] == ["ct", "vm"]
    assert after.storages[0].kinds == ("ct", "vm")
    assert after.storages[0].outlook.sentence.startswith("not known")


async def test_a_template_is_no_promise(tmp_path: Path) -> None:
    rooms = await fake_rooms(tmp_path)
    await rooms.tasks.wait(await create.create_vm(rooms, ROOT, 100, VmOptions.parse({"memory": "64"})))
    guest = await rooms.guests.get(100)
    await rooms.guests.update(replace(guest, config={**guest.config, "template": 1}))
    found = await capacity.capacity(rooms, Example())
    assert (found.memory.promised, found.guests["vm"]) == (0, 0)


async def test_a_storage_that_was_sampled_has_an_outlook(tmp_path: Path) -> None:
    rooms = await fake_rooms(tmp_path)
    now = time.time()
    for hours in range(60, -1, -1):
        used = {"total": 100 * GIB, "used": (70 - hours) * GIB // 10}
        rooms.sampler._series.record(now - hours * 3600, [("storage", "local", used)])
    found = (await capacity.capacity(rooms, Example())).storages[0].outlook
    assert found.rate == pytest.approx(2.4 * GIB, rel=0.1)


async def test_a_placement_is_solved_beside_the_daemon() -> None:
    found = await capacity.place(PlacementProblem.parse(PROBLEM))
    assert found.status == "optimal"
    assert set(found.assignment.values()) == {"a", "b"}


async def test_over_the_api(tmp_path: Path) -> None:
    api = await Api.make(tmp_path)
    try:
        found = await api.data("GET", "/architect/capacity", memory="1G", cores=2)
        assert (found["example"]["memory"], found["example"]["cores"]) == (GIB, 2)
        assert found["memory"]["free"] >= 0
        answer = await api.root.post("/architect/placement", json=PROBLEM)
        assert answer.json()["data"]["moves_bound"] == 2
        refused = await api.root.post("/architect/placement", json={**PROBLEM, "apart": [["x", "nobody"]]})
        assert refused.status_code == 400
        assert "nobody" in refused.text
        ada = await api.token(grants={"/vms": "PVEVMAdmin"})
        assert (await call(ada, "GET", "/architect/capacity")).status_code == 403
        assert (await ada.post("/architect/placement", json=PROBLEM)).status_code == 403
        auditor = await api.token("eve@pve", grants={"/": "PVEAuditor"})
        assert (await call(auditor, "GET", "/architect/capacity")).status_code == 200
    finally:
        await api.services.rooms.tasks.shutdown()
