"""Commands, consoles and our own methods through the application, with a WebSocket as the server hands it over."""

import asyncio

import pytest

from bastide.api import allowed
from framework.api import Api, call
from framework.api_sockets import Socket
from framework.rooms import TEMPLATE

pytestmark = pytest.mark.anyio

LXC = "/nodes/pve/lxc"
EXEC = "/bastide/guests/web/exec"


@pytest.fixture
async def web(api: Api) -> Api:
    """A running container 100 named web."""
    await api.wait(await api.data("POST", LXC, vmid=100, ostemplate=TEMPLATE, hostname="web", unprivileged=1))
    assert await api.wait(await api.data("POST", f"{LXC}/100/status/start")) == "OK"
    return api


async def test_a_command_runs_and_its_code_comes_last(web: Api) -> None:
    command = ["sh", "-c", "cat; echo $GREETING; exit 3"]
    async with Socket(web.app, EXEC, local=True, command=command, env="GREETING=hello") as socket:
        assert socket.status == 101
        await socket.send(b"\0in\n")
        await socket.send(b"\2")
        frames, code = await socket.rest()
    assert b"".join(frame[1:] for frame in frames[:-1]) == b"in\nhello\n"
    assert (frames[-1], code) == (b"\x033", 1000)


@pytest.mark.parametrize(
    ("path", "query", "status"),
    [
        (EXEC, {}, 400),
        (EXEC, {"command": "true", "unknown": "1"}, 400),
        (EXEC, {"command": "true", "env": "=x"}, 400),
        (EXEC, {"command": "true", "tty": "1", "cols": "0"}, 400),
        ("/bastide/guests/nobody/exec", {"command": "true"}, 500),
        ("/bastide/guests/web/console", {"tty": "7"}, 400),
        ("/bastide/guests/web/console", {"tty": "5"}, 500),
        (f"{LXC}/100/vncwebsocket", {"port": "22", "vncticket": "x"}, 400),
        (f"{LXC}/100/vncwebsocket", {"port": "5900", "vncticket": "x"}, 401),
        ("/bastide/guests/web/nothing", {}, 403),
    ],
)
async def test_what_is_wrong_is_refused_before_the_handshake(web: Api, path: str, query: dict, status: int) -> None:
    async with Socket(web.app, path, local=True, **query) as socket:
        assert socket.status == status, socket.body


async def test_strangers_other_sites_and_users_without_the_right_get_nothing(web: Api) -> None:
    reader = (await web.token("eve@pve", grants={"/vms/100": "PVEAuditor"})).headers["Authorization"]
    user = (await web.token("ada@pve", grants={"/vms/100": "PVEVMUser"})).headers["Authorization"]
    here, elsewhere = {"Origin": "https://pve:8006"}, {"Origin": "https://evil.test"}
    for headers, status in (
        ({}, 401),
        ({"Authorization": reader}, 403),
        ({"Authorization": user, **elsewhere}, 403),
        ({"Authorization": user, **here}, 101),
        ({"Authorization": user}, 101),
    ):
        for path in (EXEC, "/bastide/guests/100/console"):
            query = {"command": "true"} if path == EXEC else {}
            async with Socket(web.app, path, headers=headers, **query) as socket:
                assert socket.status == status, (headers, path)


@pytest.mark.parametrize("taken", ["token", "grant", "user"])
async def test_a_right_that_is_taken_away_ends_the_command(web: Api, monkeypatch, taken: str) -> None:
    monkeypatch.setattr(allowed, "LOOK_EVERY", 0.05)
    user = (await web.token(grants={"/vms/100": "PVEVMUser"})).headers["Authorization"]
    async with Socket(web.app, EXEC, headers={"Authorization": user}, command=["sleep", "300"]) as socket:
        await asyncio.sleep(0.2)
        assert socket.outbox.empty()
        if taken == "token":
            await web.data("DELETE", "/access/users/ada@pve/token/t")
        elif taken == "grant":
            await web.data("PUT", "/access/acl", path="/vms/100", users="ada@pve", roles="PVEVMUser", delete=1)
        else:
            await web.data("PUT", "/access/users/ada@pve", enable=0)
        assert await socket.rest() == ([], 1011)


async def test_a_browsers_terminal(web: Api) -> None:
    offer = await web.data("POST", f"{LXC}/100/termproxy")
    asked = {"port": offer["port"], "vncticket": offer["ticket"]}
    path = f"{LXC}/100/vncwebsocket"
    stranger = (await web.token("ada@pve", grants={"/vms/100": "PVEVMUser"})).headers["Authorization"]
    async with Socket(web.app, path, local=True, **asked) as socket:
        assert socket.answer["subprotocol"] == "binary"
        await socket.send(f"{offer['user']}:{offer['ticket']}\n")
        await socket.send("0:3:hi\n")
        assert (await socket.until(b"hi")).startswith(b"OK")
        async with Socket(web.app, path, local=True, **asked) as again:
            assert again.status == 401
    assert await web.wait(offer["upid"]) == "OK"
    offer = await web.data("POST", f"{LXC}/100/termproxy")
    asked = {"port": offer["port"], "vncticket": offer["ticket"]}
    async with Socket(web.app, path, headers={"Authorization": stranger}, **asked) as socket:
        assert socket.status == 401
    await web.data("DELETE", f"/nodes/pve/tasks/{offer['upid']}")


async def test_a_vnc_picture_is_said_not_to_be_there(web: Api) -> None:
    answer = await call(web.root, "POST", f"{LXC}/100/vncproxy")
    assert (answer.status_code, "vncproxy" in answer.json()["message"]) == (501, True)


async def test_guests_status_and_images(web: Api) -> None:
    row = {"vmid": 100, "name": "web", "node": "pve", "type": "lxc", "status": "running"}
    assert await web.data("GET", "/bastide/guests/web") == row
    assert await web.data("GET", "/bastide/guests/100") == row
    listed = await web.data("GET", "/bastide/guests")
    assert [(guest["vmid"], guest["onboot"]) for guest in listed] == [(100, 0)]
    assert await web.data("GET", "/bastide/guests/web/addresses") == listed[0]["addresses"]
    status = await web.data("GET", "/bastide/status")
    assert (status["accelerator"], "emulation" in status) == ("tcg", True)
    assert (status["node"], status["guests"]) == ("pve", {"total": 1, "running": 1})
    images = await web.data("GET", "/bastide/images")
    assert [image["volid"] for image in images] == [TEMPLATE]
    assert await web.data("GET", "/bastide/images", name="debian/12") == images
    assert await web.data("GET", "/bastide/images", name="fedora/40") == []
    nobody = await web.token("eve@pve")
    assert (await call(nobody, "GET", "/bastide/guests")).json()["data"] == []
    assert (await call(nobody, "GET", "/bastide/guests/100")).status_code == 403
    assert (await call(nobody, "GET", "/bastide/guests/100/addresses")).status_code == 403
    assert (await call(nobody, "GET", "/bastide/images")).json()["data"] == []
    for path, values in (
        ("/bastide/images/build", {"name": "debian-12"}),
        ("/bastide/images/pull", {"source": "https://x.test/a.tar.xz"}),
    ):
        assert (await call(nobody, "POST", path, **values)).status_code == 403
        assert (await call(web.root, "POST", path, storage="nowhere", **values)).status_code in (400, 500)
    answer = await call(web.root, "POST", "/bastide/images/build", name="plan9-4")
    assert (answer.status_code, list(answer.json()["errors"])) == (400, ["name"])
