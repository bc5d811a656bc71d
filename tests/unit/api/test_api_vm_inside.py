"""Commands and files in a VM through the application: the agent's privileges, the frames and the bodies."""

import pytest

from framework.api import Api, call
from framework.api_sockets import Socket
from framework.guest_agent import GuestAgent

pytestmark = pytest.mark.anyio

EXEC, FILE = "/bastide/guests/db/exec", "/bastide/guests/db/file"
NEEDED = "Permission check failed (/vms/100, VM.GuestAgent"


@pytest.fixture
async def db(api: Api):
    """A running VM 100 named db, whose guest is this machine."""
    agent = GuestAgent()
    api.services.rooms.vms.ask = agent.ask
    await api.wait(await api.data("POST", "/nodes/pve/qemu", vmid=100, name="db", agent="1"))
    assert await api.wait(await api.data("POST", "/nodes/pve/qemu/100/status/start")) == "OK"
    yield api
    agent.close()


async def test_a_command_runs_by_the_agent(db: Api) -> None:
    command = ["sh", "-c", "cat; echo $GREETING; exit 3"]
    async with Socket(db.app, EXEC, local=True, command=command, env="GREETING=hello") as socket:
        assert socket.status == 101
        await socket.send(b"\0in\n")
        await socket.send(b"\2")
        frames, code = await socket.rest()
    assert b"".join(frame[1:] for frame in frames[:-1]) == b"in\nhello\n"
    assert (frames[-1], code) == (b"\x033", 1000)


async def test_a_terminal_is_refused_before_the_handshake(db: Api) -> None:
    async with Socket(db.app, EXEC, local=True, command="true", tty="1") as socket:
        assert socket.status == 500
        assert b"a terminal is not supported" in socket.body


async def test_a_console_is_not_enough(db: Api, tmp_path) -> None:
    """A console asks for a password; the agent is the guest's root."""
    await db.data("POST", "/access/roles", roleid="Just", privs="VM.Console,VM.Audit")
    user = await db.token("ada@pve", grants={"/vms/100": "Just"})
    async with Socket(db.app, EXEC, command="true", headers={"Authorization": user.headers["Authorization"]}) as socket:
        assert socket.status == 403
        assert NEEDED.encode() in socket.body
    read = await user.get(FILE, params={"path": "/etc/hostname"})
    write = await user.put(FILE, params={"path": f"{tmp_path}/f"}, content=b"x")
    assert (read.status_code, write.status_code) == (403, 403)
    assert NEEDED in read.json()["message"]
    await db.data("PUT", "/access/roles/Just", privs="VM.GuestAgent.FileRead", append=1)
    assert (await user.get(FILE, params={"path": "/proc/version"})).status_code == 200
    assert (await user.put(FILE, params={"path": f"{tmp_path}/f"}, content=b"x")).status_code == 403


async def test_files_go_in_and_come_out(db: Api, tmp_path) -> None:
    data = bytes(range(256)) * 5000
    put = await db.root.put(FILE, params={"path": f"{tmp_path}/f", "mode": "0600"}, content=data)
    assert put.json()["data"] == {"size": len(data), "mode": "0600", "uid": 0, "gid": 0}
    got = await db.root.get(FILE, params={"path": f"{tmp_path}/f"})
    assert got.content == data
    assert got.headers["content-length"] == str(len(data))
    endless = await db.root.get(FILE, params={"path": "/proc/version"})
    assert "content-length" not in endless.headers
    assert endless.content.startswith(b"Linux version")


async def test_what_is_not_there_is_told(db: Api) -> None:
    for path in ("/nonexistent/f", "/etc"):
        assert (await db.root.get(FILE, params={"path": path})).status_code == 500
    answer = await call(db.root, "GET", "/bastide/guests/db/file", path="relative")
    assert answer.status_code == 400
