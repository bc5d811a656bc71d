"""What takes long ends when the right to it is taken away: uploads, downloads, waiting for a task's log."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from bastide.api import allowed
from bastide.api.allowed import Watched
from bastide.api.routing import Call
from bastide.model.access import ROOT, Identity
from framework.api import Api, call

pytestmark = pytest.mark.anyio

BOUNDARY = "frontier"
Taking = Callable[[Api], Awaitable[Any]]


async def take_grant(api: Api) -> None:
    await api.data("PUT", "/access/acl", path="/storage", users="ada@pve", roles="PVEDatastoreAdmin", delete=1)


async def take_token(api: Api) -> None:
    await api.data("DELETE", "/access/users/ada@pve/token/t")


async def take_user(api: Api) -> None:
    await api.data("PUT", "/access/users/ada@pve", enable=0)


async def remove_user(api: Api) -> None:
    await api.data("DELETE", "/access/users/ada@pve")


TAKEN = pytest.mark.parametrize("taking", [take_grant, take_token, take_user, remove_user])


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allowed, "LOOK_EVERY", 0.05)


async def test_of_what_is_still_allowed_nothing_ends(api: Api) -> None:
    user = await api.token(grants={"/storage": "PVEDatastoreAdmin"})
    held = asyncio.Event()
    sending = asyncio.create_task(user.post("/nodes/pve/storage/local/upload", **upload(held)))
    await asyncio.sleep(0.3)
    assert not sending.done()
    held.set()
    assert (await sending).status_code == 200


def upload(held: asyncio.Event) -> dict[str, Any]:
    """An upload that goes no further until it is let go."""

    async def body() -> AsyncIterator[bytes]:
        part = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="content"\r\n\r\niso\r\n'
        part += f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="filename"; filename="held.iso"\r\n\r\n'
        yield part.encode() + b"begun"
        await held.wait()
        yield f"\r\n--{BOUNDARY}--\r\n".encode()

    return {"content": body(), "headers": {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}}


@TAKEN
async def test_an_upload_ends_and_leaves_nothing(api: Api, tmp_path: Path, taking: Taking) -> None:
    """Without `while_allowed` in the upload this waits for ever."""
    user = await api.token(grants={"/storage": "PVEDatastoreAdmin"})
    sending = asyncio.create_task(user.post("/nodes/pve/storage/local/upload", **upload(asyncio.Event())))
    async with asyncio.timeout(30):
        while not [path for path in tmp_path.rglob("*") if "held.iso" in path.name]:
            await asyncio.sleep(0.02)
        await taking(api)
        assert (await sending).status_code == 403
    assert [path for path in tmp_path.rglob("*") if "held.iso" in path.name] == []


@TAKEN
async def test_an_answer_is_broken_off(api: Api, taking: Taking) -> None:
    """Without `Watched` this waits for ever."""
    user = await api.token(grants={"/storage": "PVEDatastoreAdmin"})
    header = (b"authorization", user.headers["Authorization"].encode())
    connection = Request({"type": "http", "method": "GET", "path": "/", "headers": [header]})
    made = Call(api.services, Identity("ada@pve", "t"), connection)
    sent: list[dict[str, Any]] = []
    closed = []

    async def endless() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"x"
                await asyncio.sleep(0.01)
        finally:
            closed.append(True)

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        await asyncio.Event().wait()

    answer = Watched(made, lambda: made.require("/storage/local", "Datastore.Allocate"), StreamingResponse(endless()))
    async with asyncio.timeout(30):
        sending = asyncio.create_task(answer({"type": "http", "asgi": {"spec_version": "2.3"}}, receive, send))
        while len(sent) < 3:
            await asyncio.sleep(0.01)
        await taking(api)
        await sending
    assert sent[-1]["more_body"], "whoever reads must not take it for the whole"
    assert closed == [True]


async def test_a_failure_of_the_answer_itself_is_told(api: Api) -> None:
    class Broken(Response):
        async def __call__(self, *_: Any) -> None:
            raise OSError("the disk is gone")

    async def nothing(*_: Any) -> None:
        """Nobody reads."""

    made = Call(api.services, ROOT, Request({"type": "http", "method": "GET", "headers": []}))
    with pytest.raises(OSError, match="the disk is gone"):
        await Watched(made, nothing, Broken())({"type": "http"}, asyncio.Event().wait, nothing)


async def test_whoever_waits_for_a_log_gets_none_of_it_afterwards(api: Api) -> None:
    """Without the second look in `read_news` this fails."""
    waiting, told = asyncio.Event(), asyncio.Event()

    async def work(task: Any) -> None:
        waiting.set()
        await told.wait()
        task.log("a secret of later")

    upid = await api.services.rooms.tasks.start("test", "", ROOT, work)
    user = await api.token(grants={"/": "PVEAuditor"})
    asked = asyncio.create_task(call(user, "GET", f"/bastide/tasks/{upid}", start=0))
    await waiting.wait()
    await asyncio.sleep(0.1)  # it may not be let in yet, and is then refused at once: that is no fault of the test
    await api.data("PUT", "/access/acl", path="/", users="ada@pve", roles="PVEAuditor", delete=1)
    told.set()
    answer = await asked
    assert (answer.status_code, "secret" in answer.text) == (403, False)


async def test_a_token_sees_its_own_tasks_and_no_others_of_its_user(api: Api) -> None:
    """Without the token in the filter of tasks' lists this fails."""

    async def work(_task: Any) -> None:
        return None

    token = await api.token()
    tasks = api.services.rooms.tasks
    theirs = await tasks.start("test", "", Identity("ada@pve"), work)
    own = await tasks.start("test", "", Identity("ada@pve", "t"), work)
    for upid in (theirs, own):
        await tasks.wait(upid)
    for path, values in (("/nodes/pve/tasks", {"source": "all"}), ("/cluster/tasks", {})):
        rows = (await call(token, "GET", path, **values)).json()["data"]
        assert [row["upid"] for row in rows] == [str(own)], path
    assert (await call(token, "GET", f"/nodes/pve/tasks/{theirs}/log")).status_code == 403
