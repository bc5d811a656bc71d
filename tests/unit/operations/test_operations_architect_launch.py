"""Launching a service over the fakes: what is made, what a failure leaves, and who may."""

from pathlib import Path
from typing import Any

import pytest

from bastide.base.errors import AlreadyExists, HostFailure
from bastide.guest.fake import FakeEngine
from bastide.model.advice import HostFacts
from bastide.operations.architect import deploy, plan
from bastide.operations.rooms import Rooms
from framework.advice import advice_for
from framework.api import Api

pytestmark = pytest.mark.anyio

PATH = "/architect/launch"
WEB: dict[str, Any] = {"name": "web", "network": {"ip": "manual"}}


@pytest.fixture
async def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Api:
    """The API over the fakes, with an architect whose mind is known."""

    async def adviser(rooms: Rooms) -> Any:
        return (lambda service: (advice_for(service), None)), HostFacts(node="pve", memory=16 << 30)

    monkeypatch.setattr(plan, "_adviser", adviser)
    return await Api.make(tmp_path)


@pytest.fixture
def rooms(api: Api) -> Rooms:
    return api.services.rooms


async def _post(client: Any, **values: Any) -> Any:
    return await client.post(PATH, json=WEB | values)


async def _launch(api: Api, **values: Any) -> str:
    answer = await _post(api.root, **values)
    assert answer.status_code == 200, answer.text
    return await api.wait(answer.json()["data"])


async def test_a_guest_is_made_and_runs_and_belongs_to_no_plan(api: Api, rooms: Rooms) -> None:
    assert await _launch(api, memory="256M", tags="prod") == "OK"
    guest = await rooms.guests.find("web")
    assert (guest.config["memory"], guest.config["tags"]) == (256, "prod")
    assert rooms.containers.running() == {guest.vmid}
    assert await rooms.store.list("plan/") == []
    [task] = await rooms.tasks.list(typefilter="launch")
    assert task.upid.id == str(guest.vmid)


@pytest.mark.parametrize("keep", [False, True])
async def test_what_fails_leaves_nothing_behind_unless_it_is_kept(api: Api, rooms: Rooms, keep: bool) -> None:
    engine = rooms.containers
    assert isinstance(engine, FakeEngine)
    engine.fail_next["start"] = HostFailure("it broke")
    assert "it broke" in await _launch(api, keep=keep)
    assert [guest.name for guest in await rooms.guests.list()] == (["web"] if keep else [])


async def test_a_vmid_that_another_took_meanwhile_is_left_to_it(
    api: Api, rooms: Rooms, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, refused = deploy.make, []

    async def late(rooms: Rooms, by: Any, making: Any) -> None:
        if not refused:
            refused.append(making.vmid)
            raise AlreadyExists("it is taken")
        await make(rooms, by, making)

    monkeypatch.setattr(deploy, "make", late)
    assert await _launch(api) == "OK"
    assert [guest.name for guest in await rooms.guests.list()] == ["web"]


async def test_a_taken_name_and_what_is_a_plans_are_refused(api: Api, rooms: Rooms) -> None:
    assert await _launch(api) == "OK"
    assert "already exists" in (await _post(api.root)).json()["message"]
    for values in ({"instances": 2}, {"after": ["db"]}, {"name": "no_name"}):
        assert (await _post(api.root, **{"name": "db", **values})).status_code == 400
    assert (await _post(api.root, name="db", memory="17G")).json()["errors"].keys() == {"memory"}
    assert len(await rooms.guests.list()) == 1


async def test_rights_on_guests_storage_and_bridge_are_needed_and_enough(api: Api, rooms: Rooms) -> None:
    answer = await _post(await api.token())
    assert answer.status_code == 403
    assert await rooms.guests.list() == []
    grants = {"/vms": "PVEVMAdmin", "/storage/local": "PVEDatastoreUser", "/sdn/zones/localnetwork": "PVESDNUser"}
    answer = await _post(await api.token("eve@pve", grants=grants))
    assert answer.status_code == 200, answer.text
    assert await api.wait(answer.json()["data"]) == "OK"


async def test_a_form_says_what_is_nested_as_text(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    async def adviser(rooms: Rooms) -> Any:
        return (lambda service: (asked.append(service), advice_for(service), None)[1:]), HostFacts(node="pve")

    monkeypatch.setattr(plan, "_adviser", adviser)
    form = {"name": "web", "kernel": "tracing", "devices": "gpu:shared", "image": "local:vztmpl/gone.tar"}
    assert (await api.root.post(PATH, data=form)).json()["errors"].keys() == {"image"}
    assert asked[0].kernel.tracing
    assert [device.type for device in asked[0].devices] == ["gpu"]
