"""`/bastide/events`: what has changed, as server-sent events (HTML, section 9.2).

Names alone, and only of what the caller may see; a client asks again for what it shows of them. The stream ends with
the login by which it was opened, and with the daemon; a client that comes back asks for everything anew.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from starlette.responses import Response

from bastide.api.auth import check_same_origin, identify
from bastide.api.errors import RequestRefused
from bastide.api.routing import Branch, Call, NoParameters
from bastide.base.errors import AuthenticationFailed, WrongState
from bastide.operations.changes import TICK, Changes, Listener
from bastide.web.marks import STOPPING

HEARTBEAT = 15.0
"""Seconds after which a comment shows that the stream stands."""

_PATIENCE = 60.0  # seconds that a client may take to read what waits for it
_HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-store",
}
_GREETING = b"retry: 1000\n\n: bastide\n\n"
_BEAT = b":\n\n"

branch = Branch("/bastide/events")


@branch.get("", NoParameters, user="all")
async def read_events(call: Call, _p: NoParameters) -> Response:
    """What has changed since the last event, at most every quarter of a second, as a text/event-stream.

    Each event's data is a JSON object with those of `guests` (vmids), `tasks` (UPIDs) and `topics` that are not empty:
    `guests`, `tasks`, `storage`, `nodes`, `pools`, `jobs`, `access` or `architect`, of which anything may have changed.
    """
    check_same_origin(call.connection)
    changes = call.services.changes
    try:
        changes.refuse_too_many(call.identity)
    except WrongState as error:
        raise RequestRefused(503, str(error)) from None
    return _Stream(call, changes)


class _Stream(Response):
    """The answer that goes on until somebody ends it."""

    def __init__(self, call: Call, changes: Changes) -> None:
        super().__init__(headers=_HEADERS)
        del self.headers["content-length"]
        self._call = call
        self._changes = changes

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async with self._changes.listen(self._call.identity) as listener:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            if scope["method"] != "HEAD":
                ends = [
                    asyncio.create_task(self._tell(listener, send)),
                    asyncio.create_task(_gone(receive)),
                    asyncio.create_task(_stopping(scope)),
                ]
                try:
                    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for end in ends:
                        end.cancel()
                    await asyncio.gather(*ends, return_exceptions=True)
        with suppress(TimeoutError):
            async with asyncio.timeout(1):  # who does not read does not read the end either
                await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _tell(self, listener: Listener, send: Callable[[Any], Awaitable[None]]) -> None:
        """Send events until the caller may not listen any more, or does not read."""
        text, checked = _GREETING, time.monotonic()
        with suppress(AuthenticationFailed, TimeoutError):
            while not listener.lost:
                async with asyncio.timeout(_PATIENCE):
                    await send({"type": "http.response.body", "body": text, "more_body": True})
                    await asyncio.sleep(TICK)
                news = await listener.next(HEARTBEAT)
                text = b"data: " + news.to_json().encode() + b"\n\n" if news else _BEAT
                if listener.doubtful or time.monotonic() - checked > HEARTBEAT:
                    listener.doubtful, checked = False, time.monotonic()
                    await identify(self._call.access, self._call.connection, method="GET")


async def _gone(receive: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _stopping(scope: Any) -> None:
    await scope.get(STOPPING, asyncio.Event()).wait()
