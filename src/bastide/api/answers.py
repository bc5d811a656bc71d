"""What goes back over the wire: `{"data": ...}`, errors with their reason phrase, both formats, compression.

`json` answers with the method's own status; `extjs` always with 200 and the outcome in the body. A 401 has no body.
"""

import asyncio
import gzip
import json
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import HTTPConnection
from starlette.responses import Response

from bastide.api.encodings import takes
from bastide.api.errors import Problem
from bastide.web.status import Status

CONTENT_TYPE = "application/json;charset=UTF-8"
_COMPRESS_FROM = 2048
_THREAD_FROM = 256 * 1024
_AGAIN_AFTER = "5"  # seconds: what is full is seldom so for longer
_HEADERS = {
    "content-type": CONTENT_TYPE,
    "cache-control": "max-age=0",
    "pragma": "no-cache",
}
_WALLS = {
    "x-content-type-options": "nosniff",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
    "cross-origin-resource-policy": "same-origin",
}
"""On every answer: what the API hands out, guests' files among it, is never a page of this host's to a browser."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A handler's result when more than `data` goes into the body: `extra` lies beside it (`total`, `changes`)."""

    data: Any
    extra: dict[str, Any] = field(default_factory=dict)


def walled(response: Response) -> Response:
    """The answer as a browser may have it. What an answer says by itself stays."""
    for name, value in _WALLS.items():
        response.headers.setdefault(name, value)
    return response


def wire_format(path: str) -> str:
    """`extjs` or `json`, by the path's prefix."""
    return "extjs" if path.startswith("/api2/extjs") else "json"


async def success(connection: HTTPConnection, result: Any) -> Response:
    """The response to a handler's result, compressed when it is large and the client accepts gzip."""
    answer = result if isinstance(result, Answer) else Answer(result)
    body: dict[str, Any] = {**answer.extra, "data": answer.data}
    if wire_format(connection.url.path) == "extjs":
        body["success"] = 1
    return await _json(connection, 200, body)


async def failure(connection: HTTPConnection, problem: Problem) -> Response:
    """The response to an error."""
    status = Status(problem.status, problem.message)
    if problem.status == 401:
        return Response(status_code=status, headers={"cache-control": "max-age=0", "content-length": "0"})
    body: dict[str, Any] = {"data": None, "message": problem.message.rstrip("\n") + "\n"}
    if problem.errors:
        body["errors"] = problem.errors
    if wire_format(connection.url.path) == "extjs":
        response = await _json(connection, 200, {**body, "success": 0, "status": problem.status})
    else:
        response = await _json(connection, status, body)
    if problem.unread:
        response.headers["connection"] = "close"
    if problem.status == 503:
        response.headers["retry-after"] = _AGAIN_AFTER
    return response


async def _json(connection: HTTPConnection, status: int, body: Any) -> Response:
    content = json.dumps(body, separators=(",", ":")).encode()
    headers = _HEADERS
    if len(content) >= _COMPRESS_FROM and takes(connection, "gzip"):
        if len(content) >= _THREAD_FROM:
            content = await asyncio.to_thread(gzip.compress, content, 1)
        else:
            content = gzip.compress(content, 1)
        headers = {**headers, "content-encoding": "gzip", "vary": "accept-encoding"}
    return Response(content, status_code=status, headers=headers)
