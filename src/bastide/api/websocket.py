"""A WebSocket as operations see it: frames in, frames out, and an end; and how long its caller may keep it."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from bastide.access.users import is_active
from bastide.api.auth import identify, is_local
from bastide.api.routing import Call
from bastide.base.errors import AuthenticationFailed

LOOK_EVERY = 20.0
"""Seconds between two looks at whether the caller may still have the guest's console."""

_SUBPROTOCOL = "binary"


class SocketChannel:
    """A WebSocket's messages; text ones (browsers' terminals send them) are their UTF-8."""

    def __init__(self, websocket: WebSocket) -> None:
        self._websocket = websocket

    async def accept(self) -> None:
        """Answer the handshake, with the subprotocol `binary` for clients that offer it."""
        offered = self._websocket.scope.get("subprotocols", [])
        await self._websocket.accept(_SUBPROTOCOL if _SUBPROTOCOL in offered else None)

    async def receive(self) -> bytes | None:
        """The next message, or None when the client is gone."""
        message = await self._websocket.receive()
        if message["type"] != "websocket.receive":
            return None
        data = message.get("bytes")
        return data if data is not None else str(message.get("text") or "").encode()

    async def send(self, frame: bytes) -> None:
        """Send a binary message; waits while the client does not read. Raises OSError when it is gone."""
        try:
            await self._websocket.send_bytes(frame)
        except (WebSocketDisconnect, RuntimeError) as error:
            raise ConnectionResetError("the client is gone") from error

    async def close(self) -> None:
        """Say goodbye; a client that is gone does not mind."""
        try:
            await self._websocket.close(1000)
        except (WebSocketDisconnect, RuntimeError, OSError):
            return


async def while_allowed(
    call: Call, vmid: int, work: Coroutine[Any, Any, Any], *, privilege: str = "VM.Console"
) -> None:
    """Do the work until it ends, or until the caller's token, user or right (`privilege`) is taken away.

    Raises what the work raises, AuthenticationFailed or PermissionDenied. An aged login ticket does not end it.
    """
    working = asyncio.create_task(work)
    watching = asyncio.create_task(_watch(call, vmid, privilege))
    try:
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (working, watching):
            task.cancel()
        await asyncio.gather(working, watching, return_exceptions=True)
    for task in (working, watching):
        if not task.cancelled():
            task.result()


async def _watch(call: Call, vmid: int, privilege: str) -> None:
    while not is_local(call.connection):
        await asyncio.sleep(LOOK_EVERY)
        await call.require(f"/vms/{vmid}", privilege)
        if call.identity.token is not None:
            await identify(call.access, call.connection, method="GET")
        elif not is_active(await call.access.users.get(call.identity.userid)):
            raise AuthenticationFailed("permission denied - the user may not log in any more")
    await asyncio.Event().wait()
