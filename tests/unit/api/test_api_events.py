"""The stream of what has changed: its form, its end, and what slow or foreign readers get."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from bastide.api import events
from bastide.web.marks import LOCAL, STOPPING
from framework.api import Api

pytestmark = pytest.mark.anyio

EVENTS = "/api2/json/bastide/events"
SESSION = "/bastide/session"


class Stream:
    """A client's side of the stream in process."""

    def __init__(self, api: Api, *, method: str = "GET", headers: dict[str, str] | None = None, **marks: Any) -> None:
        names = {"host": "pve:8006", **(headers or {})}
        self.scope = {
            "type": "http",
            "method": method,
            "path": EVENTS,
            "raw_path": EVENTS.encode(),
            "query_string": b"",
            "headers": [(name.lower().encode(), value.encode()) for name, value in names.items()],
            "scheme": "https",
            "http_version": "1.1",
            "client": ("192.0.2.9", 4711),
            "server": ("pve", 8006),
            **marks,
        }
        self.app = api.app
        self.sent: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.gone = asyncio.Event()
        self.reading = asyncio.Event()
        self.reading.set()
        self.asked = False

    async def receive(self) -> dict[str, Any]:
        if not self.asked:
            self.asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: dict[str, Any]) -> None:
        await self.reading.wait()
        await self.sent.put(message)

    async def open(self) -> dict[str, Any]:
        self.task = asyncio.create_task(self.app(self.scope, self.receive, self.send))
        start = await asyncio.wait_for(self.sent.get(), 5)
        self.status = int(start["status"])
        self.headers = httpx.Headers(start["headers"])
        return start

    async def text(self, seconds: float = 3) -> str:
        """The next piece of the body; empty at its end."""
        message = await asyncio.wait_for(self.sent.get(), seconds)
        return str(message["body"].decode())

    async def news(self) -> Any:
        """The data of the next event."""
        text = await self.text()
        assert text.startswith("data: ")
        assert text.endswith("\n\n")
        return json.loads(text.removeprefix("data: "))


@asynccontextmanager
async def streaming(api: Api, **options: Any) -> AsyncIterator[Stream]:
    stream = Stream(api, **options)
    await stream.open()
    assert stream.status == 200
    assert (await stream.text()).startswith("retry: ")
    yield stream
    stream.gone.set()
    stream.reading.set()
    await asyncio.wait_for(stream.task, 5)


async def login(api: Api) -> dict[str, str]:
    await api.data("POST", "/access/users", userid="ada@pve", password="correct horse 1")
    await api.client.post(SESSION, json={"username": "ada@pve", "password": "correct horse 1"})
    return {"cookie": f"PVEAuthCookie={api.client.cookies['PVEAuthCookie']}"}


async def test_a_change_is_an_event_with_names_alone(api: Api) -> None:
    async with streaming(api, **{LOCAL: True}) as stream:
        assert stream.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert stream.headers["cache-control"] == "no-store"
        assert "content-length" not in stream.headers
        await api.services.rooms.store.put("guest/100", '{"name": "secret"}')
        assert await stream.news() == {"guests": [100]}
        await api.services.rooms.store.put("storage/nas", "{}")
        assert await stream.news() == {"topics": ["storage"]}


async def test_a_comment_shows_that_the_stream_stands(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "HEARTBEAT", 0.1)
    async with streaming(api, **{LOCAL: True}) as stream:
        assert [await stream.text() for _ in range(2)] == [":\n\n", ":\n\n"]


async def test_it_ends_with_the_server(api: Api) -> None:
    stop = asyncio.Event()
    async with streaming(api, **{LOCAL: True, STOPPING: stop}) as stream:
        stop.set()
        assert await stream.text() == ""
        await asyncio.wait_for(stream.task, 2)


async def test_it_ends_when_the_client_is_gone(api: Api) -> None:
    async with streaming(api, **{LOCAL: True}) as stream:
        assert len(api.services.changes._listeners) == 1
        stream.gone.set()
        await asyncio.wait_for(stream.task, 2)
        assert not api.services.changes._listeners


async def test_it_ends_with_the_login(api: Api) -> None:
    async with streaming(api, headers=await login(api)) as stream:
        await api.data("PUT", "/access/acl", path="/vms/100", users="ada@pve", roles="PVEVMUser")
        assert "guests" in (await stream.news())["topics"]
        await api.data("PUT", "/access/users/ada@pve", enable=0)
        assert await stream.text() == ""


async def test_it_ends_when_the_ticket_does(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "HEARTBEAT", 0.2)
    async with streaming(api, headers=await login(api)) as stream:
        assert await stream.text() == ":\n\n"
        monkeypatch.setattr(api.services.access._tickets, "_clock", lambda: 10**10)
        while await stream.text():
            pass


async def test_a_stranger_and_another_origin_hear_nothing(api: Api) -> None:
    cookie = await login(api)
    for headers, status in (
        ({}, 401),
        ({"cookie": "PVEAuthCookie=PVE:ada@pve:6:x"}, 401),
        ({**cookie, "origin": "https://evil.example"}, 403),
        ({**cookie, "sec-fetch-site": "same-site"}, 403),
    ):
        stream = Stream(api, headers=headers)
        await stream.open()
        assert stream.status == status
        await stream.task
        assert "access-control-allow-origin" not in stream.headers


async def test_head_is_answered_at_once(api: Api) -> None:
    stream = Stream(api, method="HEAD", **{LOCAL: True})
    await stream.open()
    assert (stream.status, await stream.text()) == (200, "")
    await asyncio.wait_for(stream.task, 2)


async def test_who_does_not_read_costs_little_and_is_ended(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "_PATIENCE", 1.5)
    async with streaming(api, **{LOCAL: True}) as stream:
        stream.reading.clear()
        await asyncio.sleep(0.3)
        for number in range(3000):
            await api.services.rooms.store.put(f"guest/{100 + number}", "{}")
        await asyncio.sleep(0.7)
        (listener,) = api.services.changes._listeners
        assert len(listener._news.guests) <= 500
        await asyncio.wait_for(stream.task, 10)
        assert stream.sent.empty()


async def test_many_streams_of_one_caller_are_refused(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bastide.operations.changes._LISTENERS_OF_ONE", 1)
    async with streaming(api, **{LOCAL: True}):
        second = Stream(api, **{LOCAL: True})
        await second.open()
        assert second.status == 503
        assert second.headers["retry-after"] == "5"
        assert "too many listen" in await second.text()
        await second.task
