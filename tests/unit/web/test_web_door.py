"""What comes from the web process is read as an attacker's: frames, heads, and what the application is told by them."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bastide.web import door as doors
from bastide.web.door import Door
from bastide.web.frames import (
    CLOSE,
    FRAME_LIMIT,
    GIVEN,
    HEAD,
    LAST,
    MORE,
    OVER,
    PART,
    PREFIX,
    START,
    WANT,
    BrokenFrame,
    Head,
    packed,
)
from bastide.web.marks import LOCAL
from bastide.web.stream import Stream

pytestmark = pytest.mark.anyio

GET = Head("http", "GET", "/a%20b", "q=1", [(b"host", b"pve"), (b"x", b"\xff\t")], ("192.0.2.7", 4711))


class Application:
    """Notes the scopes, and answers with the body that it was sent; without reading it below `/unread`."""

    def __init__(self) -> None:
        self.scopes: list[dict[str, Any]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        if scope["path"] == "/broken":
            raise ValueError("a fault")
        body, more = b"", scope["path"] != "/unread"
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if scope["path"] == "/half":
                break
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x-a", b"b")]})
        await send({"type": "http.response.body", "body": body})


@asynccontextmanager
async def opened(app: Any) -> AsyncIterator[tuple[Stream, socket.socket]]:
    """A stream as the web process gets it, and the socket by which it asked."""
    door = Door(app, {"mark": 1})
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        for end in (ours, theirs):
            end.setblocking(False)
        serving = asyncio.create_task(door.serve(ours))
        theirs.send(MORE)
        stream = await Stream.over(await _given(theirs))
        yield stream, theirs
        stream.close()
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        await door.drain()


async def _given(control: socket.socket) -> socket.socket:
    while True:
        try:
            told, descriptors, _, _ = socket.recv_fds(control, 16, 1)
        except BlockingIOError:
            await asyncio.sleep(0.01)
        else:
            assert told == GIVEN
            return socket.socket(fileno=descriptors[0])


async def read(stream: Stream) -> tuple[int, bytes] | None:
    return await asyncio.wait_for(stream.read(), 10)


async def test_a_request_and_the_next_one_go_over_one_stream() -> None:
    app = Application()
    async with opened(app) as (stream, _):
        for _ in range(3):
            stream.write(HEAD, GET.to_bytes())
            kind, content = await read(stream) or (0, b"")
            assert kind == START
            assert json.loads(content) == {"status": 200, "reason": None, "headers": [["x-a", "b"]]}
            assert await read(stream) == (LAST, b"")
    scope = app.scopes[0]
    assert (scope["path"], scope["raw_path"], scope["query_string"]) == ("/a b", b"/a%20b", b"q=1")
    assert scope["headers"] == GET.headers
    assert scope["client"] == ("192.0.2.7", 4711)
    assert scope["mark"] == 1
    assert LOCAL not in scope


async def test_a_body_is_sent_when_it_is_wanted() -> None:
    head = Head("http", "POST", "/", "", [], ("192.0.2.7", 1), body=True)
    async with opened(Application()) as (stream, _):
        stream.write(HEAD, head.to_bytes())
        assert await read(stream) == (WANT, b"")
        stream.write(PART, b"a" * 1000)
        stream.write(LAST, b"b")
        assert (await read(stream) or (0,))[0] == START
        assert await read(stream) == (LAST, b"a" * 1000 + b"b")


async def test_a_body_that_is_not_read_is_never_taken_for_a_request() -> None:
    forged = b"".join(bytes(piece) for piece in packed(HEAD, GET.to_bytes()))
    app = Application()
    for path, last in (("/unread", LAST), ("/half", OVER)):
        async with opened(app) as (stream, _):
            stream.write(HEAD, Head("http", "POST", path, "", [], ("192.0.2.7", 1), body=True).to_bytes())
            if last == OVER:
                assert await read(stream) == (WANT, b"")
                stream.write(PART, forged)
                stream.write(PART, forged)
            assert (await read(stream) or (0,))[0] == START
            assert (await read(stream) or (0,))[0] == last
            if last == OVER:
                assert await read(stream) is None, "the stream has ended"
    assert [scope["path"] for scope in app.scopes] == ["/unread", "/half"]


@pytest.mark.parametrize(
    "frame",
    [
        (PART, b""),
        (CLOSE, b""),
        (HEAD, b"{}"),
        (HEAD, b"[" * 60_000),
        (HEAD, b"\xff"),
        (HEAD, b"x" * (FRAME_LIMIT - 1)),
        (0, b""),
    ],
)
async def test_what_is_no_request_ends_the_stream(frame: tuple[int, bytes]) -> None:
    app = Application()
    async with opened(app) as (stream, _):
        stream.write(*frame)
        assert await read(stream) is None
    assert app.scopes == []


async def test_a_frame_without_end_takes_no_memory() -> None:
    ours, theirs = socket.socketpair()
    stream = await Stream.over(ours)
    theirs.send(PREFIX.pack(HEAD, FRAME_LIMIT + 1))
    assert await read(stream) is None
    theirs.close()


async def test_a_reader_that_waits_holds_the_writer_up() -> None:
    """Back-pressure: of what nobody reads, some hundred kilobytes are taken."""
    ours, theirs = socket.socketpair()
    near, far = await Stream.over(ours), await Stream.over(theirs)
    written = 0

    async def write() -> None:
        nonlocal written
        while True:
            near.write(PART, bytes(65536))
            written += 65536
            await near.drain()

    writing = asyncio.create_task(write())
    for _ in range(200):
        await asyncio.sleep(0)
    await asyncio.sleep(0.1)
    assert written < 8 << 20
    before = written
    for _ in range(before // 65536):
        await read(far)
    await asyncio.sleep(0.1)
    assert written > before, "it goes on when something is read"
    writing.cancel()
    near.close()
    far.close()


async def test_a_fault_of_the_application_ends_the_stream_alone() -> None:
    async with opened(Application()) as (stream, control):
        stream.write(HEAD, Head("http", "GET", "/broken", "", [], ("192.0.2.7", 1)).to_bytes())
        assert await read(stream) is None
        control.send(MORE)
        second = await Stream.over(await _given(control))
        second.write(HEAD, GET.to_bytes())
        assert (await read(second) or (0,))[0] == START
        second.close()


async def test_streams_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doors, "MOST_STREAMS", 1)
    async with opened(Application()) as (_, control):
        control.send(MORE)
        async with asyncio.timeout(10):
            assert await asyncio.get_running_loop().sock_recv(control, 16) == b"f"


@pytest.mark.parametrize("asked", [b"x", b"mm", b"\0"])
async def test_who_asks_for_something_else_is_ended(asked: bytes) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        ours.setblocking(False)
        theirs.send(asked)
        with pytest.raises(BrokenFrame):
            await asyncio.wait_for(Door(Application(), {}).serve(ours), 10)


async def test_descriptors_from_there_are_not_taken() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs, socket.socket() as smuggled:
        ours.setblocking(False)
        socket.send_fds(theirs, [b"x"], [smuggled.fileno()])
        with pytest.raises(BrokenFrame):
            await asyncio.wait_for(Door(Application(), {}).serve(ours), 10)


def _with(**changed: Any) -> bytes:
    return json.dumps({**json.loads(GET.to_bytes()), **changed}).encode()


@pytest.mark.parametrize(
    "changed",
    [
        {"kind": "lifespan"},
        {"kind": ["http"]},
        {"method": "GET / HTTP/1.1\r\nX: y"},
        {"method": ""},
        {"path": "/a b"},
        {"path": "/a\r\nX: y"},
        {"path": 7},
        {"query": "a\n"},
        {"headers": [["x", "a\r\ny: b"]]},
        {"headers": [["x\r\n", "a"]]},
        {"headers": [["X", "a"]]},
        {"headers": [["x", "\u0100"]]},
        {"headers": [["x", "a"]] * 65},
        {"headers": [["x"]]},
        {"client": ["localhost", 1]},
        {"client": None},
        {"subprotocols": 7},
    ],
    ids=str,
)
def test_a_head_of_another_form_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(BrokenFrame):
        Head.from_bytes(_with(**changed))


def test_a_head_has_no_place_for_a_user() -> None:
    claimed = Head.from_bytes(_with(user="root@pam", local=True, scope={LOCAL: True}))
    assert claimed == Head.from_bytes(GET.to_bytes())


@given(st.binary(max_size=300))
def test_any_bytes_are_a_head_or_refused(content: bytes) -> None:
    with suppress(BrokenFrame):
        Head.from_bytes(content)


@given(
    st.lists(st.tuples(st.sampled_from([PART, LAST, HEAD]), st.binary(max_size=200)), max_size=8), st.integers(1, 50)
)
def test_frames_arrive_whole_however_they_are_cut(frames: list[tuple[int, bytes]], cut: int) -> None:
    async def carry() -> list[tuple[int, bytes]]:
        stream = Stream()
        whole = b"".join(b"".join(map(bytes, packed(*frame))) for frame in frames)
        for place in range(0, len(whole), cut):
            stream.data_received(whole[place : place + cut])
        stream.connection_lost(None)
        return [frame for _ in range(len(frames) + 1) if (frame := await stream.read()) is not None]

    assert asyncio.run(carry()) == frames


@pytest.mark.parametrize(
    ("seen", "told"),
    [("::ffff:192.0.2.7", "192.0.2.7"), ("192.0.2.7", "192.0.2.7"), ("2001:db8:0:0::1", "2001:db8::1")],
)
def test_a_client_has_one_address_whatever_socket_it_came_to(seen: str, told: str) -> None:
    head = Head("http", "GET", "/", "", [], (seen, 1))
    assert Head.from_bytes(head.to_bytes()).client == (told, 1)
