"""A WebSocket of the API in process, as the server hands it over."""

import asyncio
from typing import Any, Self
from urllib.parse import urlencode

from bastide.web.marks import LOCAL


class Socket:
    """The client's side of a WebSocket in process. `status` is the answer to the handshake; 101 for accepted."""

    def __init__(self, app: Any, path: str, *, local: bool = False, headers: dict[str, str] | None = None, **query):
        names = {"host": "pve:8006", **(headers or {})}
        self.scope = {
            "type": "websocket",
            "path": f"/api2/json{path}",
            "raw_path": f"/api2/json{path}".encode(),
            "query_string": urlencode(query, doseq=True).encode(),
            "headers": [(name.lower().encode(), value.encode()) for name, value in names.items()],
            "subprotocols": ["binary"],
            "extensions": {"websocket.http.response": {}},
            "scheme": "wss",
            "client": ("192.0.2.9", 4711),
            "server": ("pve", 8006),
            **({LOCAL: True} if local else {}),
        }
        self.app = app
        self.inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.outbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.status = 0
        self.body = b""

    async def __aenter__(self) -> Self:
        await self.inbox.put({"type": "websocket.connect"})
        self.task = asyncio.create_task(self.app(self.scope, self.inbox.get, self.outbox.put))
        answer = await asyncio.wait_for(self.outbox.get(), 10)
        self.answer = answer
        self.status = 101 if answer["type"] == "websocket.accept" else answer.get("status", 403)
        if self.status != 101 and answer["type"] == "websocket.http.response.start":
            self.body = (await asyncio.wait_for(self.outbox.get(), 10)).get("body", b"")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.inbox.put({"type": "websocket.disconnect", "code": 1001})
        await asyncio.wait_for(self.task, 10)

    async def send(self, frame: bytes | str) -> None:
        kind = "text" if isinstance(frame, str) else "bytes"
        await self.inbox.put({"type": "websocket.receive", kind: frame})

    async def rest(self) -> tuple[list[bytes], int]:
        """The frames until the server closes, and the code it closes with."""
        frames = []
        while (message := await asyncio.wait_for(self.outbox.get(), 10))["type"] == "websocket.send":
            frames.append(message["bytes"])
        return frames, message["code"]

    async def until(self, text: bytes) -> bytes:
        received = b""
        while text not in received:
            received += (await asyncio.wait_for(self.outbox.get(), 10))["bytes"]
        return received
