"""Applying plans over the fakes: order, repetition, failures, crashes, copies, and who may."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from bastide.base.errors import HostFailure, InvalidParameter, Locked, NotFound, WrongState
from bastide.guest.fake import FakeEngine
from bastide.guest.fake_vm import FakeVmEngine
from bastide.model.access import ROOT
from bastide.model.advice import Advice, HostFacts
from bastide.model.container import ContainerOptions
from bastide.model.homelab import PlanRecord
from bastide.model.service import Service
from bastide.operations.architect import apply as applying
from bastide.operations.architect import deploy, plan, plans
from bastide.operations.ct import configure, power
from bastide.operations.destroy import destroy_guest
from bastide.operations.recover import recover
from bastide.operations.rooms import Rooms
from framework.advice import advice_for
from framework.api import Api, call

pytestmark = pytest.mark.anyio

LAB = """\
name: lab
services:
- {name: web, memory: 256M, network: {ip: manual}, after: [app]}
- {name: app, network: {ip: manual}, after: [db], instances: 2}
- {name: db, network: {ip: 10.77.0.9/24}}
"""
ONE = "name: lab\nservices:\n- {name: web, network: {ip: manual}}\n"


class Anything:
    """A caller who may do everything."""

    async def image(self, image: str, order: Any) -> None: ...
    async def create(self, order: Any, name: str, vmid: int) -> None: ...
    async def change(self, guest: Any, change: Any) -> None: ...
    async def grow(self, guest: Any) -> None: ...
    async def finish(self, order: Any, guest: Any) -> None: ...
    async def remove(self, guest: Any) -> None: ...


@pytest.fixture
async def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Api:
    """The API over the fakes, with an architect whose mind is known."""
    _advise_with(monkeypatch, advice_for)
    return await Api.make(tmp_path)


@pytest.fixture
def rooms(api: Api) -> Rooms:
    return api.services.rooms


def _advise_with(monkeypatch: pytest.MonkeyPatch, ask: Callable[[Service], Advice]) -> None:
    async def adviser(rooms: Rooms) -> Any:
        return (lambda service: (ask(service), None)), HostFacts(node="pve", memory=16 << 30)

    monkeypatch.setattr(plan, "_adviser", adviser)


async def _apply(rooms: Rooms, text: str, **options: Any) -> str:
    upid = await applying.apply(rooms, ROOT, text, Anything(), **options)
    return str((await rooms.tasks.wait(upid)).exitstatus)


async def _log(rooms: Rooms) -> list[str]:
    upid = (await rooms.tasks.list(typefilter="apply"))[0].upid
    return [line.t for line in (await rooms.tasks.log(upid, 0, 1000))[0]]


async def _names(rooms: Rooms) -> dict[str, int]:
    return {guest.name: guest.vmid for guest in await rooms.guests.list()}


async def _actions(rooms: Rooms, text: str) -> dict[str, str]:
    return {step.guest: step.action for look in await plan.plan(rooms, text) for step in look.steps}


async def _record(rooms: Rooms, name: str = "lab") -> PlanRecord | None:
    entry = await rooms.store.get(f"plan/{name}")
    return None if entry is None else PlanRecord.model_validate_json(entry.value)


async def test_guests_are_made_in_order_and_a_second_time_nothing_changes(rooms: Rooms) -> None:
    assert await _apply(rooms, LAB) == "OK"
    assert set(await _names(rooms)) == {"web", "app-1", "app-2", "db"}
    assert len(rooms.containers.running()) == 4
    started = [str(one.upid.id) for one in reversed(await rooms.tasks.list(typefilter="vzstart"))]
    names = {str(vmid): name for name, vmid in (await _names(rooms)).items()}
    order = [names[vmid] for vmid in started]
    assert (order[0], set(order[1:3]), order[3]) == ("db", {"app-1", "app-2"}, "web")
    guest = await rooms.guests.find("db")
    assert "ip=10.77.0.9/24" in str(guest.config["net0"])
    assert "gw=10.77.0.1" in str(guest.config["net0"])
    assert guest.config["tags"] == "lab"
    assert set((await _actions(rooms, LAB)).values()) == {"keep"}
    before = [guest.digest for guest in await rooms.guests.list()]
    assert await _apply(rooms, LAB) == "OK"
    assert any("0 changes" in line for line in await _log(rooms))
    assert [guest.digest for guest in await rooms.guests.list()] == before


async def test_changes_are_made_and_drift_is_mended(rooms: Rooms) -> None:
    await _apply(rooms, LAB)
    names = await _names(rooms)
    await configure.update_config(rooms, ROOT, names["db"], ContainerOptions.parse({"memory": 1024, "swap": 7}))
    await rooms.tasks.wait(await power.stop(rooms, ROOT, names["app-1"]))
    await rooms.tasks.wait(await destroy_guest(rooms, ROOT, names["app-2"], force=True))
    changed = LAB.replace("256M", "384M").replace("name: web,", "name: web, onboot: true, tags: prod,")
    assert await _actions(rooms, changed) == {"web": "change", "app-1": "drift", "app-2": "drift", "db": "drift"}
    assert await _apply(rooms, changed) == "OK"
    web, db = await rooms.guests.find("web"), await rooms.guests.find("db")
    assert (web.config["memory"], web.config["onboot"], web.config["tags"]) == (384, 1, "lab;prod")
    assert (db.config["memory"], "swap" in db.config) == (512, False)
    assert len(rooms.containers.running()) == 4
    assert set((await _actions(rooms, changed)).values()) == {"keep"}


async def test_a_disk_grows_and_is_not_shrunk(rooms: Rooms) -> None:
    await _apply(rooms, ONE)
    larger = ONE.replace("name: web", "name: web, disk: 5G")
    assert await _apply(rooms, larger) == "OK"
    assert "size=5G" in str((await rooms.guests.find("web")).config["rootfs"])
    with pytest.raises(InvalidParameter) as caught:
        await _apply(rooms, ONE.replace("name: web", "name: web, disk: 2G"))
    assert "cannot shrink" in caught.value.errors["line 3: services[0].disk"]


async def test_what_fails_keeps_only_its_dependants_from_going_on(rooms: Rooms) -> None:
    engine = rooms.containers
    assert isinstance(engine, FakeEngine)
    engine.fail_next["unpack"] = HostFailure("it broke")
    text = LAB + "- {name: other, network: {ip: manual}}\n"
    text = text.replace("name: other,", "name: other, after: [],")
    # One at a time: the first to unpack is `db` or `other`.
    status = await _apply(rooms, text)
    assert "it broke" in status
    names = set(await _names(rooms))
    if "other" in names:
        assert names == {"other"}
        assert "left out, because db failed" in status
    else:
        assert names == {"web", "app-1", "app-2", "db"}
    assert await rooms.locks.list() == []
    assert await _apply(rooms, text) == "OK"
    assert set(await _names(rooms)) == {"web", "app-1", "app-2", "db", "other"}


async def test_an_interrupted_run_is_gone_on_with(rooms: Rooms, monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon that dies leaves a record; guests that are made are finished, others are made, under the same vmids."""
    finish, waiting = deploy.finish, asyncio.Event()

    async def stuck(rooms: Rooms, by: Any, one: Any, guest: Any, *rest: Any, **options: Any) -> Any:
        if guest.name == "app-1":
            waiting.set()
            await asyncio.Event().wait()
        return await finish(rooms, by, one, guest, *rest, **options)

    monkeypatch.setattr(deploy, "finish", stuck)
    upid = await applying.apply(rooms, ROOT, LAB, Anything())
    await asyncio.wait_for(waiting.wait(), 20)
    before = await _record(rooms)
    assert before is not None
    assert {name: one.state for name, one in before.guests.items()} | {"app-2": ""} == {
        "web": "planned", "app-1": "made", "app-2": "", "db": "ready",
    }  # fmt: skip
    with pytest.raises(Locked, match="works on it"):
        await applying.apply(rooms, ROOT, LAB, Anything())
    with pytest.raises(Locked, match="works on it"):
        await applying.destroy(rooms, ROOT, Anything(), name="lab")
    await rooms.tasks.stop(upid)
    assert (await rooms.tasks.wait(upid)).exitstatus == "received interrupt"
    monkeypatch.setattr(deploy, "finish", finish)
    await recover(rooms)
    assert await _apply(rooms, LAB) == "OK"
    assert await _names(rooms) == {name: one.vmid for name, one in before.guests.items()}
    assert len(rooms.containers.running()) == 4


async def test_a_stopped_run_stops_what_it_had_begun(rooms: Rooms, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = rooms.containers
    assert isinstance(engine, FakeEngine)
    begun = asyncio.Event()
    unpacking = engine.unpacking

    def slow(*arguments: Any) -> Any:
        from contextlib import asynccontextmanager  # noqa: PLC0415

        @asynccontextmanager
        async def opened() -> AsyncIterator[Any]:
            begun.set()
            await asyncio.Event().wait()
            async with unpacking(*arguments) as argv:
                yield argv

        return opened()

    monkeypatch.setattr(engine, "unpacking", slow)
    upid = await applying.apply(rooms, ROOT, ONE, Anything())
    await asyncio.wait_for(begun.wait(), 20)
    await rooms.tasks.stop(upid)
    await rooms.tasks.wait(upid)
    assert await rooms.guests.list() == []
    assert [one for one in await rooms.tasks.list() if one.running] == []
    monkeypatch.setattr(engine, "unpacking", unpacking)
    assert await _apply(rooms, ONE) == "OK"


async def test_a_vmid_that_another_took_meanwhile_is_left_to_it(rooms: Rooms, monkeypatch: pytest.MonkeyPatch) -> None:
    make = deploy.make

    async def late(rooms: Rooms, by: Any, making: Any) -> None:
        if making.vmid == 100:
            from bastide.operations.ct.create import create_container  # noqa: PLC0415
            from framework.rooms import TEMPLATE  # noqa: PLC0415

            options = ContainerOptions.parse({"hostname": "stranger", "unprivileged": 1, "rootfs": "local:0"})
            await rooms.tasks.wait(await create_container(rooms, ROOT, 100, TEMPLATE, options))
        await make(rooms, by, making)

    monkeypatch.setattr(deploy, "make", late)
    assert await _apply(rooms, ONE) == "OK"
    assert await _names(rooms) == {"stranger": 100, "web": 101}
    upid = await applying.destroy(rooms, ROOT, Anything(), text=ONE)
    assert (await rooms.tasks.wait(upid)).exitstatus == "OK"
    assert await _names(rooms) == {"stranger": 100}


async def test_user_data_needs_a_template_with_cloud_init_and_is_left_in_it(rooms: Rooms) -> None:
    engine, secret = rooms.containers, "#cloud-config\npassword: hunter2\n"
    assert isinstance(engine, FakeEngine)
    text = f"name: lab\nservices:\n- name: web\n  network: {{ip: manual}}\n  user_data: {json.dumps(secret)}\n"
    folder = rooms.layout.local_storage / "template/cache"
    shutil.copy(folder / "debian-12-test_1_amd64.tar.gz", folder / "debian-12-cloud_1_amd64.tar.gz")
    assert await _apply(rooms, text) == "OK"
    guest = await rooms.guests.find("web")
    assert any(secret in one for one in engine.seeds[guest.vmid].values())
    entry = await rooms.store.get("plan/lab")
    assert entry is not None
    assert "hunter2" not in entry.value + "".join(await _log(rooms))
    assert await _actions(rooms, text) == {"web": "keep"}
    assert await _actions(rooms, text.replace("hunter2", "hunter3")) == {"web": "replace"}


async def test_what_left_the_plan_is_removed_only_when_asked(rooms: Rooms) -> None:
    both = ONE + "- {name: db, network: {ip: manual}}\n"
    await _apply(rooms, both)
    assert await _apply(rooms, ONE) == "OK"
    assert any("--prune removes it" in line for line in await _log(rooms))
    assert set(await _names(rooms)) == {"web", "db"}
    assert await _apply(rooms, ONE, prune=True) == "OK"
    assert set(await _names(rooms)) == {"web"}


async def test_a_guest_is_made_anew_only_when_asked(rooms: Rooms, monkeypatch: pytest.MonkeyPatch) -> None:
    await _apply(rooms, ONE)
    vm = ONE.replace("name: web", "name: web, kind: vm, image: 'local:import/debian-12.qcow2'")
    folder = rooms.layout.local_storage / "import"
    folder.mkdir(exist_ok=True)
    (folder / "debian-12.qcow2").write_bytes(b"")
    with pytest.raises(WrongState, match=r"web \(kind: ct -> vm, image.*--replace"):
        await _apply(rooms, vm)
    made = []

    async def make(rooms: Rooms, by: Any, making: Any) -> None:
        made.append(making)
        raise HostFailure("no images in this test")

    monkeypatch.setattr(deploy, "make", make)
    assert "no images in this test" in await _apply(rooms, vm, replace=True)
    assert [(one.name, one.one.kind, one.image) for one in made] == [("web", "vm", "local:import/debian-12.qcow2")]
    assert await rooms.guests.list() == []


async def test_copies_are_made_and_removed_in_one_go(rooms: Rooms) -> None:
    text = (
        "name: br\nservices:\n- {name: db, network: {ip: manual}}\n- {name: app, network: {ip: manual}, after: [db]}\n"
    )
    assert await _apply(rooms, text, copies=5) == "OK"
    assert len(await _names(rooms)) == 10
    assert "br-5-app" in await _names(rooms)
    assert len(await plans.known_plans(rooms)) == 5
    upid = await applying.destroy(rooms, ROOT, Anything(), text=text, copies=5)
    assert (await rooms.tasks.wait(upid)).exitstatus == "OK"
    assert await rooms.guests.list() == []
    assert await rooms.store.list("plan/") == []
    with pytest.raises(NotFound, match="no such plan"):
        await applying.destroy(rooms, ROOT, Anything(), name="br")


@pytest.mark.parametrize(
    ("text", "key", "words"),
    [
        (ONE.replace("name: web", "name: web, memory: 17G"), "line 3: services[0].memory", "more than this host has"),
        (ONE.replace("name: web", "name: web, image: local:vztmpl/gone.tar"), "line 3: services[0].image", "no image"),
        (ONE.replace("name: web", "name: web, os: windows-11"), "line 3: services[0].os", "medium of its own"),
        ("name: home\nservices:\n- web\n", "line 3: services[0]", "holds no mapping"),
    ],
)
async def test_what_this_host_cannot_do_is_told_by_its_line(rooms: Rooms, text: str, key: str, words: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        await plan.plan(rooms, text)
    assert words in caught.value.errors[key]


async def test_copies_with_one_address_are_refused(rooms: Rooms) -> None:
    with pytest.raises(InvalidParameter) as caught:
        await plan.plan(rooms, LAB, copies=2)
    assert list(caught.value.errors) == ["line 5: services[2].network.ip"]


async def test_a_vm_is_rendered_with_its_disks_and_addresses(rooms: Rooms, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (
        "name: lab\nservices:\n- name: dc\n  kind: vm\n  memory: 2G\n  disk: 10G\n"
        "  network: {ip: 10.77.0.9/24}\n  mounts: [{path: /srv, size: 3G}]\n  ssh_keys: [ssh-ed25519 AAAA me@there]\n"
    )
    _advise_with(
        monkeypatch,
        lambda service: advice_for(service, scsi0="local:0,import-from=debian-12,iothread=1", net0="virtio,firewall=1"),
    )
    order = (await plan.decide(rooms, text))[0].orders["dc"]
    options = deploy.vm_options(rooms, order, "dc", "local:import/x.qcow2").to_text()
    assert options["scsi0"] == "local:0,import-from=local:import/x.qcow2,iothread=1"
    assert options["scsi1"] == "local:3,discard=on,serial=mount-0"
    assert options["ide2"] == "local:cloudinit"
    assert options["net0"] == "virtio,bridge=vmbr0,firewall=1"
    assert options["ipconfig0"] == "gw=10.77.0.1,ip=10.77.0.9/24"
    assert (options["memory"], options["cores"], options["name"], options["tags"]) == ("2048", 1, "dc", "lab")
    assert options["sshkeys"] == "ssh-ed25519%20AAAA%20me%40there"


async def test_a_vm_is_made_grown_and_waited_for(rooms: Rooms, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = rooms.vms
    assert isinstance(engine, FakeVmEngine)
    text = "name: lab\nservices:\n- {name: dc, kind: vm, image: x, network: {ip: manual}}\n"

    async def obtain(self: Any, image: str, kind: str) -> str:
        return "none"

    monkeypatch.setattr(applying.Images, "obtain", obtain)
    render = deploy.vm_options
    monkeypatch.setattr(deploy, "vm_options", lambda rooms, one, name, image: render(rooms, one, name, None))
    assert await _apply(rooms, text) == "OK"
    guest = await rooms.guests.find("dc")
    assert guest.kind == "qemu"
    assert engine.running() == {guest.vmid}
    assert await _actions(rooms, text) == {"dc": "keep"}
    assert await _actions(rooms, text.replace("kind: vm", "kind: vm, memory: 1G")) == {"dc": "change"}


# permissions


async def _denied(api: Api, client: Any, path: str, **values: Any) -> str:
    answer = await call(client, "POST", path, **values)
    assert answer.status_code == 403, answer.text
    return str(answer.json()["message"])


async def test_a_user_without_rights_changes_nothing(api: Api) -> None:
    client = await api.token()
    assert "/storage/local" in await _denied(api, client, "/architect/apply", text=ONE)
    assert await api.services.rooms.guests.list() == []
    assert await api.services.rooms.store.list("plan/") == []
    assert await api.wait(await api.data("POST", "/architect/apply", text=ONE)) == "OK"
    assert "/vms/100" in await _denied(api, client, "/architect/destroy", name="lab")
    assert "/vms/100" in await _denied(api, client, "/architect/plan", text=ONE)
    await _denied(api, client, "/architect/apply", text=ONE.replace("name: web", "name: web, memory: 1G"))
    assert (await api.services.rooms.guests.get(100)).config["memory"] == 512
    answer = await call(client, "GET", "/architect/plans")
    assert answer.json()["data"] == []


async def test_rights_on_guests_storage_and_bridge_are_enough(api: Api) -> None:
    grants = {"/vms": "PVEVMAdmin", "/storage/local": "PVEDatastoreUser", "/sdn/zones/localnetwork": "PVESDNUser"}
    client = await api.token(grants=grants)
    answer = await call(client, "POST", "/architect/apply", text=ONE)
    assert answer.status_code == 200, answer.text
    assert await api.wait(answer.json()["data"]) == "OK"
    # A folder of the host's is root@pam's alone, and so is an image that would have to be built for others.
    bind = ONE.replace("name: web", "name: web2, mounts: [{path: /m, source: /etc}]").replace("lab", "lab2")
    assert "bind" in await _denied(api, client, "/architect/apply", text=bind)
    build = ONE.replace("name: web", "name: web2, os: debian-13").replace("lab", "lab2")
    assert "Datastore.AllocateTemplate" in await _denied(api, client, "/architect/apply", text=build)
    assert list(await _names(api.services.rooms)) == ["web"]


async def test_the_api_tells_decisions_and_steps(api: Api) -> None:
    found = await api.data("POST", "/architect/plan", text=LAB)
    assert [row["service"] for row in found[0]["decisions"]] == ["web", "app", "db"]
    assert found[0]["decisions"][0]["line"] == 3
    assert {step["action"] for step in found[0]["steps"]} == {"create"}
    answer = await call(api.root, "POST", "/architect/plan", text="name: lab\nservices:\n- name: a\n  memory: 5\n")
    assert answer.json()["errors"] == {"line 4: services[0].memory": "say the unit: 5M or 5G"}
    await api.wait(await api.data("POST", "/architect/apply", text=ONE))
    plans_known = await api.data("GET", "/architect/plans")
    assert plans_known[0]["guests"][0] == {
        "name": "web", "service": "web", "vmid": 100, "kind": "ct", "state": "ready", "status": "running",
    }  # fmt: skip
    assert await api.wait(await api.data("POST", "/architect/destroy", name="lab")) == "OK"
    assert await api.data("GET", "/architect/plans") == []


async def test_the_published_schema_is_current(api: Api) -> None:
    """Made by `bastide plan --schema > docs/homelab.schema.json`."""
    published = json.loads((Path(__file__).resolve().parents[3] / "docs/homelab.schema.json").read_text())
    assert published == await api.data("GET", "/architect/plan/schema")
