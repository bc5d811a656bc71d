"""Conversations with a guest agent that does what it likes."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bastide.base.errors import BastideError, DeadlineExceeded, HostFailure, WrongState
from bastide.guest.qemu import agent as agent_module
from bastide.guest.qemu.agent import Agent, Conversation
from bastide.guest.qemu.inspection import parse_interfaces
from bastide.guest.qemu.runtime import Runtime
from bastide.host import unix_sockets

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def synced(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, before: bytes = b"") -> None:
    """Answer the synchronisation, with something before it."""
    line = await reader.readline()
    assert line.startswith(b"\xff")
    token = json.loads(line[1:])["arguments"]["id"]
    writer.write(before + b"\xff" + json.dumps({"return": token}).encode() + b"\n")


@contextlib.asynccontextmanager
async def talking(script: Script) -> AsyncIterator[Conversation]:
    """A conversation with an agent that follows the script."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    reader, writer = await asyncio.open_connection(sock=theirs)
    task = asyncio.ensure_future(script(reader, writer))
    try:
        yield Conversation(ours)
    finally:
        task.cancel()
        ours.close()
        writer.transport.abort()
        with contextlib.suppress(asyncio.CancelledError, OSError):
            await task


async def ask(script: Script, command: str = "guest-info", deadline: float = 5) -> Any:
    async with asyncio.timeout(deadline), talking(script) as talk:
        await talk.synchronise()
        return await talk.ask(command, {"a": 1})


@pytest.mark.anyio
async def test_a_good_agent_is_understood() -> None:
    heard: list[Any] = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await synced(reader, writer)
        heard.append(json.loads(await reader.readline()))
        writer.write(b'{"return": {"version": "7.2"}}\n')

    assert await ask(script) == {"version": "7.2"}
    assert heard == [{"execute": "guest-info", "arguments": {"a": 1}}]


@pytest.mark.anyio
async def test_late_answers_of_others_are_dropped() -> None:
    stale = b'{"return": "stale"}\n{"return": 5}\n\xff{"return": 77}\n\xff not json\n{"return": "stale"}'

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await synced(reader, writer, stale)
        await reader.readline()
        writer.write(b'{"return": "fresh"}\n')

    assert await ask(script) == "fresh"


@pytest.mark.anyio
@pytest.mark.parametrize(
    "answer",
    [b"not json\n", b"[]\n", b"{}\n", b'{"error": 5}\n', b"[" * 100_000 + b"\n", b'{"return": \xff\xfe}\n', b"1\n"],
)
async def test_broken_answers_are_none(answer: bytes) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await synced(reader, writer)
        await reader.readline()
        writer.write(answer)

    with pytest.raises(HostFailure, match="answer"):
        await ask(script)


@pytest.mark.anyio
async def test_the_agents_own_error_is_told() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await synced(reader, writer)
        await reader.readline()
        writer.write(b'{"error": {"class": "CommandNotFound", "desc": "no such thing"}}\n')

    with pytest.raises(HostFailure, match="refused guest-info: no such thing"):
        await ask(script)


@pytest.mark.anyio
async def test_an_endless_answer_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_module, "ANSWER_LIMIT", 1 << 20)

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await synced(reader, writer)
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()

    with pytest.raises(HostFailure, match="longer than 1 MiB"):
        await ask(script)


@pytest.mark.anyio
@pytest.mark.parametrize("what", [b"", b"noise", b"\xff", b'\xff{"return": 1}\n'])
async def test_an_agent_that_never_synchronises_costs_the_deadline(what: bytes) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(what)
            await writer.drain()
            await asyncio.sleep(0.001)

    with pytest.raises(TimeoutError):
        await ask(script, deadline=0.3)


@pytest.mark.anyio
async def test_a_closed_port_is_a_failure() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await synced(reader, writer)
        await writer.drain()
        writer.close()

    with pytest.raises((HostFailure, OSError)):
        await ask(script)


class FakeMonitor:
    def __init__(self, *, open_port: bool = True) -> None:
        self.open_port = open_port

    async def execute(self, command: str, **_: Any) -> Any:
        assert command == "query-chardev"
        return [{"label": "qga", "frontend-open": self.open_port}]


class FakeRuntime:
    """One VM whose agent's socket is there."""

    def __init__(self, folder: Path, monitor: FakeMonitor) -> None:
        self.folder, self.monitor = folder, monitor
        self.agent_turn = asyncio.Lock()
        self.vmid = 1

    def require(self, _vmid: int) -> "FakeRuntime":
        return self

    def socket(self, _vmid: int, name: str) -> Path:
        return self.folder / f"{name}.sock"


def engine_part(folder: Path, *, open_port: bool = True) -> Agent:
    return Agent(cast(Runtime, FakeRuntime(folder, FakeMonitor(open_port=open_port))))


@pytest.mark.anyio
async def test_conversations_take_turns_and_keep_their_deadlines(tmp_path: Path) -> None:
    talking_now = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal talking_now
        talking_now += 1
        assert talking_now == 1
        with contextlib.suppress(OSError, ValueError):
            await synced(reader, writer)
            command = json.loads(await reader.readline())["execute"]
            if command == "hang":
                await reader.read()
            writer.write(json.dumps({"return": command}).encode() + b"\n")
        talking_now -= 1
        writer.close()

    server = await asyncio.start_unix_server(serve, sock=unix_sockets.listen(tmp_path / "qga.sock"))
    agent = engine_part(tmp_path)
    hanging = asyncio.ensure_future(agent.ask(1, "hang", deadline=0.5))
    await asyncio.sleep(0.1)
    with pytest.raises(DeadlineExceeded):
        await agent.ask(1, "second", deadline=0.1)
    with pytest.raises(DeadlineExceeded):
        await hanging
    await asyncio.sleep(0.05)
    assert await asyncio.gather(*(agent.ask(1, f"c{number}", deadline=5) for number in range(5))) == [
        f"c{number}" for number in range(5)
    ]
    assert await agent.agent_answers(1)
    server.close()


@pytest.mark.anyio
async def test_without_an_agent_nobody_waits(tmp_path: Path) -> None:
    with pytest.raises(WrongState, match="No QEMU guest agent configured"):
        await engine_part(tmp_path).ask(1, "guest-ping", deadline=5)
    unix_sockets.listen(tmp_path / "qga.sock").close()
    with pytest.raises(WrongState, match="agent is not running"):
        await engine_part(tmp_path, open_port=False).ask(1, "guest-ping", deadline=5)
    with pytest.raises(BastideError):
        await engine_part(tmp_path).ask(1, "guest-ping", deadline=5)


def test_interfaces_are_read() -> None:
    answer = [
        {"name": "lo", "ip-addresses": [{"ip-address": "127.0.0.1", "ip-address-type": "ipv4", "prefix": 8}]},
        {
            "name": "eth0",
            "hardware-address": "52:54:00:12:34:56",
            "ip-addresses": [
                {"ip-address": "10.0.2.15", "ip-address-type": "ipv4", "prefix": 24},
                {"ip-address": "fe80::1", "ip-address-type": "ipv6", "prefix": 64},
                {"ip-address": "rubbish", "prefix": 64},
                {"ip-address": "10.0.0.1"},
            ],
        },
        {"name": "bad\n", "ip-addresses": "none"},
    ]
    found = list(parse_interfaces(answer))
    assert [(one.interface, one.hwaddr, one.address, one.prefix) for one in found] == [
        ("eth0", "52:54:00:12:34:56", "10.0.2.15", 24),
        ("eth0", "52:54:00:12:34:56", "fe80::1", 64),
    ]


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.sampled_from(["name", "ip-addresses", "ip-address", "prefix", "hardware-address"]), inner)
    ),
    max_leaves=30,
)


@given(_JSON)
@settings(max_examples=300, deadline=None)
def test_whatever_an_agent_says_of_its_interfaces_is_read(answer: Any) -> None:
    for address in parse_interfaces(answer):
        assert address.interface.isprintable()
        assert 0 <= address.prefix <= 128
