"""How long a caller may keep what takes long: a console, an upload, a download.

A permission is decided when a call begins. What goes on for minutes asks for it again, so that a right, a token or a
user that is taken away ends it within `LOOK_EVERY` seconds. A login ticket that has aged meanwhile ends nothing.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from bastide.access.users import is_active
from bastide.api.auth import identify, is_local
from bastide.api.errors import RequestRefused
from bastide.api.routing import Call
from bastide.base.errors import AuthenticationFailed, BastideError

LOOK_EVERY = 20.0
"""Seconds between two looks at whether the caller may still have it."""

Permit = Callable[[], Awaitable[Any]]
"""Asks once more whether the caller may; raises BastideError when not, as when what it is about is gone."""

T = TypeVar("T")


async def while_allowed(call: Call, permit: Permit, work: Coroutine[Any, Any, T]) -> T:
    """Do the work until it ends, or until the caller's token, user or right is taken away.

    Raises what the work raises, or RequestRefused (403) when it was ended: it is then cancelled and has come to its
    end, and whoever still sends is not listened to.
    """
    working = asyncio.create_task(work)
    refusal = await _refusal(call, permit, working)
    if isinstance(refusal, BastideError):
        raise RequestRefused(403, str(refusal), unread=True) from refusal
    if refusal is not None:
        raise refusal
    return working.result()


class Watched(Response):
    """An answer whose body is broken off when the caller may not have it any more.

    The connection is closed before the body's end, so that nobody takes the part for the whole.
    """

    def __init__(self, call: Call, permit: Permit, answer: Response) -> None:
        """`answer` is what is sent; its status and headers are this one's."""
        self._call, self._permit, self._answer = call, permit, answer
        self.status_code, self.background, self.raw_headers = answer.status_code, None, answer.raw_headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer, or its beginning: a server closes the connection of an answer that was not ended."""
        sending = asyncio.create_task(self._answer(scope, receive, send))
        if await _refusal(self._call, self._permit, sending) is None:
            sending.result()


async def _refusal(call: Call, permit: Permit, working: asyncio.Task[Any]) -> BaseException | None:
    """Why the work was ended before its end, to which it has come; None when it ended by itself."""
    watching = asyncio.create_task(_watch(call, permit))
    try:
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
        return None if working.done() else watching.exception()
    finally:
        for task in (working, watching):
            task.cancel()
        await asyncio.gather(working, watching, return_exceptions=True)


async def _watch(call: Call, permit: Permit) -> None:
    while not is_local(call.connection):
        await asyncio.sleep(LOOK_EVERY)
        if call.identity.token is not None:
            await identify(call.access, call.connection, method="GET")
        elif not is_active(await call.access.users.get(call.identity.userid)):
            raise AuthenticationFailed("permission denied - the user may not log in any more")
        await permit()
    await asyncio.Event().wait()
