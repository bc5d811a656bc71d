"""A WebSocket as operations see it: frames in, frames out, and an end."""

from starlette.websockets import WebSocket, WebSocketDisconnect

from bastide.api.auditing import NOTE, Note

_SUBPROTOCOL = "binary"


class SocketChannel:
    """A WebSocket's messages; text ones (browsers' terminals send them) are their UTF-8."""

    def __init__(self, websocket: WebSocket) -> None:
        self._websocket = websocket

    async def accept(self) -> None:
        """Answer the handshake, with the subprotocol `binary` for clients that offer it."""
        offered = self._websocket.scope.get("subprotocols", [])
        await self._websocket.accept(_SUBPROTOCOL if _SUBPROTOCOL in offered else None)
        note = self._websocket.scope.get(NOTE)
        if isinstance(note, Note):
            note.opened()

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
