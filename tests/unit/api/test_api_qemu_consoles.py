"""Serial ports and screens of VMs through the application."""

import asyncio
import re
from typing import Any

import pytest

from bastide.guest.fake_vm import FakeVmEngine
from framework.api import Api, call
from framework.api_sockets import Socket

pytestmark = pytest.mark.anyio

VM = "/nodes/pve/qemu/100"
OURS = "/bastide/guests/vm/console"


@pytest.fixture
async def vm(api: Api) -> Api:
    """A running VM 100 named vm with two serial ports."""
    made = await api.data("POST", "/nodes/pve/qemu", vmid=100, name="vm", memory=64, serial0="socket", serial2="socket")
    assert await api.wait(made) == "OK"
    assert await api.wait(await api.data("POST", f"{VM}/status/start")) == "OK"
    return api


def engine(api: Api) -> FakeVmEngine:
    vms = api.services.rooms.vms
    assert isinstance(vms, FakeVmEngine)
    return vms


def opened(api: Api, offer: dict[str, Any], **options: Any) -> Socket:
    asked = {"port": offer["port"], "vncticket": offer["ticket"]}
    return Socket(api.app, f"{VM}/vncwebsocket", **{"local": True, **options}, **asked)


async def heard(api: Api, size: int) -> bytes:
    """What the VM's side of the last console gets."""
    return await asyncio.wait_for(asyncio.to_thread(engine(api).peers[-1].recv, size), 5)


async def test_a_screen_is_rfb_both_ways(vm: Api) -> None:
    offer = await vm.data("POST", f"{VM}/vncproxy", websocket=1)
    assert set(offer) == {"port", "ticket", "cert", "user", "upid"}
    async with opened(vm, offer) as socket:
        assert (socket.status, socket.answer["subprotocol"]) == (101, "binary")
        assert await socket.until(b"\n") == b"RFB 003.008\n"
        await socket.send(b"RFB 003.008\n")
        assert await heard(vm, 64) == b"RFB 003.008\n"
        await asyncio.to_thread(engine(vm).peers[-1].sendall, bytes(range(256)) * 100)
        assert len(await socket.until(bytes(range(256)) * 100)) == 25_600
        async with opened(vm, offer) as again:
            assert again.status == 401, "a ticket is for one use"
    assert await vm.wait(offer["upid"]) == "OK"
    assert await heard(vm, 1) == b"", "the VM's side is closed"
    assert ("vnc", 100, None) in engine(vm).told


async def test_a_screen_with_a_password(vm: Api) -> None:
    offer = await vm.data("POST", f"{VM}/vncproxy", **{"generate-password": 1})
    assert re.fullmatch(r"[A-Za-z0-9_-]{8}", offer["password"])
    async with opened(vm, offer) as socket:
        await socket.until(b"RFB")
    assert ("vnc", 100, offer["password"]) in engine(vm).told


async def test_the_vms_end_ends_the_screen(vm: Api) -> None:
    offer = await vm.data("POST", f"{VM}/vncproxy", websocket=1)
    async with opened(vm, offer) as socket:
        await socket.until(b"RFB")
        engine(vm).peers[-1].close()
        assert await socket.rest() == ([], 1000)


async def test_a_stopped_task_ends_the_screen(vm: Api) -> None:
    offer = await vm.data("POST", f"{VM}/vncproxy", websocket=1)
    async with opened(vm, offer) as socket:
        await socket.until(b"RFB")
        await vm.data("DELETE", f"/nodes/pve/tasks/{offer['upid']}")
        assert (await socket.rest())[1] == 1000


async def test_a_ticket_is_for_its_guest_user_and_port(vm: Api) -> None:
    other = await vm.data("POST", "/nodes/pve/qemu", vmid=101, memory=64)
    assert await vm.wait(other) == "OK"
    ada = (await vm.token("ada@pve", grants={"/vms": "PVEVMUser"})).headers["Authorization"]
    eve = await vm.token("eve@pve", grants={"/vms/100": "PVEAuditor"})
    assert (await call(eve, "POST", f"{VM}/vncproxy")).status_code == 403
    for path in ("vncproxy", "termproxy"):
        offer = await vm.data("POST", f"{VM}/{path}")
        second = await vm.data("POST", f"{VM}/{path}")
        asked = {"port": offer["port"], "vncticket": offer["ticket"]}
        for place, query, options in (
            ("/nodes/pve/qemu/101", asked, {"local": True}),
            (VM, {**asked, "port": second["port"]}, {"local": True}),
            (VM, asked, {"headers": {"Authorization": ada}}),
        ):
            async with Socket(vm.app, f"{place}/vncwebsocket", **options, **query) as socket:
                assert socket.status == 401, (path, place, query)
        for upid in (offer["upid"], second["upid"]):
            await vm.data("DELETE", f"/nodes/pve/tasks/{upid}")
    assert engine(vm).peers == []


async def test_an_offer_is_not_for_the_next_run(vm: Api) -> None:
    offer = await vm.data("POST", f"{VM}/vncproxy")
    vm_engine = engine(vm)
    vm_engine.init_pid = lambda _vmid: 4711  # type: ignore[method-assign]
    async with opened(vm, offer) as socket:
        assert await socket.rest() == ([], 1011)
    assert vm_engine.peers == []


@pytest.mark.parametrize(("asked", "port"), [({}, 0), ({"serial": "serial2"}, 2)])
async def test_a_serial_port_is_a_terminal(vm: Api, asked: dict[str, str], port: int) -> None:
    offer = await vm.data("POST", f"{VM}/termproxy", **asked)
    async with opened(vm, offer) as socket:
        await socket.send(f"{offer['user']}:{offer['ticket']}\n1:80:24:")
        assert await socket.until(b"login: ") == b"OKlogin: "
        await socket.send("0:5:root\n2")
        assert await heard(vm, 64) == b"root\n"
    assert ("serial", 100, port) in engine(vm).told
    assert await vm.wait(offer["upid"]) == "OK"


async def test_the_display_may_be_a_serial_port(api: Api) -> None:
    made = await api.data(
        "POST", "/nodes/pve/qemu", vmid=100, memory=64, serial0="socket", serial1="socket", vga="serial1"
    )
    assert await api.wait(made) == "OK"
    assert await api.wait(await api.data("POST", f"{VM}/status/start")) == "OK"
    offer = await api.data("POST", f"{VM}/termproxy")
    async with opened(api, offer) as socket:
        await socket.send(f"{offer['user']}:{offer['ticket']}\n")
        await socket.until(b"login: ")
    assert ("serial", 100, 1) in engine(api).told


async def test_what_is_not_there_is_refused(vm: Api) -> None:
    absent = await call(vm.root, "POST", f"{VM}/termproxy", serial="serial1")
    assert (absent.status_code, "no serial port 'serial1'" in absent.json()["message"]) == (500, True)
    spice = await call(vm.root, "POST", f"{VM}/spiceproxy")
    assert (spice.status_code, "has no SPICE" in spice.json()["message"]) == (500, True)
    assert await vm.wait(await vm.data("POST", f"{VM}/status/stop")) == "OK"
    for path in ("termproxy", "vncproxy"):
        answer = await call(vm.root, "POST", f"{VM}/{path}")
        assert (answer.status_code, answer.json()["message"]) == (500, "VM 100 not running\n")
    async with Socket(vm.app, OURS, local=True) as socket:
        assert socket.status == 500


async def test_our_own_console(vm: Api) -> None:
    async with Socket(vm.app, OURS, local=True, serial=2, cols=100, rows=30) as socket:
        assert await socket.until(b"login: ") == b"\x01login: "
        await socket.send(b"\0root\n")
        await socket.send(b"\x01100:30")
        await socket.send(b"\2")
        await socket.send(b"\0x")
        assert await heard(vm, 64) in (b"root\n", b"root\nx")
        engine(vm).peers[-1].close()
        assert await socket.rest() == ([b"\x030"], 1000)
    assert ("serial", 100, 2) in engine(vm).told
