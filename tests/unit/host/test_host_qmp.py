"""The monitor's connection, against a scripted QEMU."""

import array
import asyncio
import contextlib
import json
import os
import socket
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from bastide.base.errors import DeadlineExceeded, HostFailure
from bastide.host import unix_sockets
from bastide.host.qmp import CommandRefused, Monitor

GREETING = {"QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 0}, "package": ""}, "capabilities": []}}


class Qemu:
    """Listens like QEMU: one client at a time. `mute` commands are never answered."""

    def __init__(self, path: Path) -> None:
        self.server = unix_sockets.listen(path)
        self.server.setblocking(False)
        self.client: socket.socket | None = None
        self.heard: list[Any] = []
        self.descriptors: list[int] = []
        self.mute: set[str] = set()
        self.greets = True
        self.task = asyncio.ensure_future(self._run())

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self.client, _ = await loop.sock_accept(self.server)
            self.client.setblocking(False)
            with contextlib.suppress(OSError):
                await self._serve(self.client)
            self.client.close()

    async def _serve(self, client: socket.socket) -> None:
        while not self.greets:
            await asyncio.sleep(0.01)
        await self.send(GREETING)
        buffer = b""
        while True:
            data = await self._receive(client)
            if not data:
                return
            buffer += data
            # Messages follow one another without a newline.
            with contextlib.suppress(ValueError):
                while buffer.strip():
                    text = buffer.decode().lstrip()
                    message, end = json.JSONDecoder().raw_decode(text)
                    buffer = text[end:].encode()
                    await self._answer(message)

    async def _receive(self, client: socket.socket) -> bytes:
        while True:
            try:
                data, extra, _, _ = client.recvmsg(65536, 1024)
            except BlockingIOError:
                await asyncio.sleep(0.005)
                continue
            for _, _, raw in extra:
                self.descriptors += array.array("i", raw)
            return data

    async def _answer(self, message: Mapping[str, Any]) -> None:
        command = message["execute"]
        self.heard.append(command)
        if command in self.mute:
            return
        if command == "fail":
            await self.send({"error": {"class": "DeviceNotFound", "desc": "no such device"}, "id": message["id"]})
        else:
            answer = {"return": message.get("arguments", {})}
            await self.send({**answer, "id": message["id"]} if "id" in message else answer)

    async def send(self, message: Mapping[str, Any]) -> None:
        assert self.client is not None
        await asyncio.get_running_loop().sock_sendall(self.client, json.dumps(message).encode() + b"\r\n")

    def hang_up(self) -> None:
        assert self.client is not None
        self.client.shutdown(socket.SHUT_RDWR)


@contextlib.asynccontextmanager
async def pair(folder: Path) -> AsyncIterator[tuple[Qemu, Monitor, list[tuple[str, Mapping[str, Any]]]]]:
    events: list[tuple[str, Mapping[str, Any]]] = []
    qemu = Qemu(folder / "qmp.sock")
    monitor = Monitor(folder / "qmp.sock", lambda event, data: events.append((event, data)))
    monitor.follow()
    try:
        yield qemu, monitor, events
    finally:
        await monitor.close()
        qemu.task.cancel()
        qemu.server.close()
        for descriptor in qemu.descriptors:
            os.close(descriptor)


async def until(condition: Any, seconds: float = 5) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.mark.anyio
async def test_commands_are_answered_and_events_told(tmp_path: Path) -> None:
    async with pair(tmp_path) as (qemu, monitor, events):
        assert await monitor.execute("query", {"a": [1, "x,y"]}) == {"a": [1, "x,y"]}
        answers = await asyncio.gather(*(monitor.execute("query", {"n": number}) for number in range(50)))
        assert answers == [{"n": number} for number in range(50)]
        with pytest.raises(CommandRefused, match="QEMU refused fail: no such device") as refusal:
            await monitor.execute("fail")
        assert refusal.value.kind == "DeviceNotFound"
        await qemu.send({"event": "STOP", "timestamp": {"seconds": 1, "microseconds": 2}})
        await qemu.send({"event": "RESET", "data": {"guest": True}, "timestamp": {"seconds": 1, "microseconds": 2}})
        await until(lambda: len(events) == 3)
        assert events == [("CONNECTED", {}), ("STOP", {}), ("RESET", {"guest": True})]


@pytest.mark.anyio
async def test_a_command_that_is_not_answered_costs_its_caller_alone(tmp_path: Path) -> None:
    async with pair(tmp_path) as (qemu, monitor, _):
        qemu.mute.add("slow")
        began = time.monotonic()
        slow = [asyncio.ensure_future(monitor.execute("slow", deadline=2)) for _ in range(3)]
        assert await monitor.execute("query", {"a": 1}) == {"a": 1}
        assert time.monotonic() - began < 1.8
        for one in slow:
            with pytest.raises(DeadlineExceeded, match="did not answer slow within 2"):
                await one
        assert await monitor.execute("query") == {}


@pytest.mark.anyio
async def test_a_qemu_that_does_not_greet_costs_the_deadline(tmp_path: Path) -> None:
    async with pair(tmp_path) as (qemu, monitor, _):
        qemu.greets = False
        with pytest.raises(DeadlineExceeded):
            await monitor.execute("query", deadline=0.2)
        assert not monitor.connected
        qemu.greets = True
        assert await monitor.execute("query", deadline=5) == {}
        assert monitor.connected


@pytest.mark.anyio
async def test_a_broken_connection_is_opened_again(tmp_path: Path) -> None:
    async with pair(tmp_path) as (qemu, monitor, events):
        qemu.mute.add("slow")
        await monitor.execute("query")
        waiting = asyncio.ensure_future(monitor.execute("slow", deadline=5))
        await until(lambda: "slow" in qemu.heard)
        qemu.hang_up()
        with pytest.raises(HostFailure, match="closed its monitor during slow"):
            await waiting
        assert await monitor.execute("query", {"again": 1}, deadline=5) == {"again": 1}
        assert [event for event, _ in events] == ["CONNECTED", "CONNECTED"]


@pytest.mark.anyio
async def test_a_large_backlog_does_not_hold_up_the_end(tmp_path: Path) -> None:
    async with pair(tmp_path) as (qemu, monitor, _):
        await monitor.execute("query")
        qemu.task.cancel()
        waiting = [asyncio.ensure_future(monitor.execute("q", {"x": "y" * 100_000}, deadline=5)) for _ in range(20)]
        await asyncio.sleep(0.05)
        began = time.monotonic()
        await monitor.close()
        assert time.monotonic() - began < 2
        for one in waiting:
            one.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


@pytest.mark.anyio
async def test_descriptors_are_handed_over_with_their_command(tmp_path: Path) -> None:
    async with pair(tmp_path) as (qemu, monitor, _):
        reading, writing = os.pipe()
        await asyncio.gather(*(monitor.execute_with(writing, "getfd", {"fdname": str(number)}) for number in range(3)))
        assert len(qemu.descriptors) == 3
        os.write(qemu.descriptors[1], b"through")
        assert os.read(reading, 10) == b"through"
        os.close(reading)
        os.close(writing)


@pytest.mark.anyio
@pytest.mark.parametrize("rubbish", [b"not json\n", b'{"no": "message"}\n', b"[1]\n", b"{" * 100_000 + b"\n"])
async def test_rubbish_breaks_only_the_connection(tmp_path: Path, rubbish: bytes) -> None:
    async with pair(tmp_path) as (qemu, monitor, _):
        await monitor.execute("query")
        assert qemu.client is not None
        await asyncio.get_running_loop().sock_sendall(qemu.client, rubbish)
        async with asyncio.timeout(5):
            while True:
                with contextlib.suppress(HostFailure):
                    assert await monitor.execute("query", {"b": 2}) == {"b": 2}
                    break
