"""WebSockets of a host over its UNIX socket, as a raw client speaks them."""

import asyncio
import contextlib
from typing import Any
from urllib.parse import urlencode

from websockets.asyncio.client import unix_connect as async_unix_connect
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, unix_connect

from framework.host import Host


def opened(host: Host, path: str, params: list[tuple[str, object]], **options: Any) -> ClientConnection:
    """A WebSocket over the UNIX socket."""
    target = f"ws://local/api2/json{path}?{urlencode(params)}"
    options.setdefault("compression", None)
    return unix_connect(str(host.root / "run/api.sock"), target, max_size=None, ping_interval=None, **options)


def execute(host: Host, guest: object, *argv: str, data: bytes = b"", **query: Any) -> tuple[int, bytes, bytes]:
    """Run a command: exit code, output, errors."""
    params = [("command", word) for word in argv] + list(query.items())
    target = f"ws://local/api2/json/bastide/guests/{guest}/exec?{urlencode(params)}"
    return asyncio.run(_execute(str(host.root / "run/api.sock"), target, data))


async def _execute(path: str, target: str, data: bytes) -> tuple[int, bytes, bytes]:
    streams: dict[int, list[bytes]] = {1: [], 2: [], 3: []}
    async with async_unix_connect(path, target, max_size=None, ping_interval=None, compression=None) as ws:

        async def feed() -> None:
            with contextlib.suppress(ConnectionClosed):
                for begin in range(0, len(data), 256 * 1024):
                    await ws.send(b"\0" + data[begin : begin + 256 * 1024])
                await ws.send(b"\2")

        feeder = asyncio.create_task(feed())
        async for frame in ws:
            assert not streams[3], "nothing comes after the exit code"
            streams[frame[0]].append(frame[1:])
        await feeder
    return int(streams[3][0]), b"".join(streams[1]), b"".join(streams[2])
