"""Requests to the API: `Client` speaks HTTP over a transport and returns what an answer's `data` holds."""

import http.client
import json
import secrets
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain
from typing import Any, BinaryIO
from urllib.parse import quote, urlencode

from bastide.base.errors import DeadlineExceeded
from bastide.client.errors import Unreachable, from_answer
from bastide.client.transport import Transport

PREFIX = "/api2/json"
ANSWER_DEADLINE = 120.0  # seconds; long work answers at once with a task id
_IDLE_LIMIT = 3.0  # seconds; the daemon closes idle connections after 5
_CHUNK = 256 * 1024

Params = Mapping[str, Any]


class _Connection(http.client.HTTPConnection):
    """A connection over whatever socket the transport opens."""

    def __init__(self, transport: Transport) -> None:
        super().__init__(transport.host, timeout=ANSWER_DEADLINE)
        self._transport = transport

    def connect(self) -> None:
        self.sock: socket.socket = self._transport.connect()
        self.sock.settimeout(self.timeout)


@dataclass(frozen=True, slots=True)
class Body:
    """A streamed answer: its length when that is known, its media type, and its chunks."""

    size: int | None
    media_type: str
    chunks: Iterator[bytes]


class Client:
    """One Bastide's API. Not for several threads at once.

    Paths begin after `/api2/json`. Every method raises the error of the tree that the daemon's answer stands for, and
    Unreachable when there is none.
    """

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self._connection: _Connection | None = None
        self._used = 0.0

    def get(self, path: str, /, **params: Any) -> Any:
        """What is at a path."""
        return self.request("GET", path, params)

    def post(self, path: str, params: Params | None = None) -> Any:
        """Create or act; a task's UPID for long work."""
        return self.request("POST", path, params)

    def put(self, path: str, params: Params | None = None) -> Any:
        """Change."""
        return self.request("PUT", path, params)

    def delete(self, path: str, **params: Any) -> Any:
        """Remove; a task's UPID for long work."""
        return self.request("DELETE", path, params)

    def request(self, method: str, path: str, params: Params | None = None) -> Any:
        """Any method. Parameters go in the query of GET and DELETE, as a form otherwise; None is left out.

        As JSON where one of them is a mapping, a list that holds one, or an empty list: a form has no words for those.
        """
        return self.request_whole(method, path, params).get("data")

    def request_whole(self, method: str, path: str, params: Params | None = None) -> dict[str, Any]:
        """The whole body of an answer; some hold more than `data` (`total`, `changes`)."""
        target, body, headers = _encode(method, path, params)
        response, content = self._exchange(method, target, body, headers)
        if response.status >= 400:
            raise from_answer(response.status, response.reason, content)
        try:
            answer = json.loads(content or b"{}")
        except ValueError:
            raise Unreachable(f"{self.transport.host} does not answer as a Bastide does") from None
        return answer if isinstance(answer, dict) else {"data": answer}

    def upload(self, path: str, params: Params, source: Iterator[bytes], size: int | None = None) -> Any:
        """PUT a streamed body, of `size` bytes when that is known; `params` go in the query."""
        return self._stream("PUT", _with_query(path, params), "application/octet-stream", source, size)

    def upload_form(self, path: str, fields: Mapping[str, str], filename: str, file: Iterator[bytes], size: int) -> Any:
        """POST a form with fields and one file of `size` bytes, streamed, in the field `filename`; a task's UPID.

        Source: RFC 7578. A name's quotes and line ends are written as browsers do.
        """
        boundary = secrets.token_hex(16)
        parts = [f'name="{_quoted(name)}"\r\n\r\n{value}\r\n' for name, value in fields.items()]
        parts.append(
            f'name="filename"; filename="{_quoted(filename)}"\r\nContent-Type: application/octet-stream\r\n\r\n'
        )
        head = "".join(f"--{boundary}\r\nContent-Disposition: form-data; {part}" for part in parts).encode()
        tail = f"\r\n--{boundary}--\r\n".encode()
        kind = f"multipart/form-data; boundary={boundary}"
        whole = len(head) + size + len(tail)
        return self._stream("POST", PREFIX + path, kind, chain([head], file, [tail]), whole)

    def _stream(self, method: str, target: str, kind: str, source: Iterator[bytes], size: int | None) -> Any:
        headers = {"Content-Type": kind, **self.transport.headers}
        if size is not None:
            headers["Content-Length"] = str(size)
        connection = _Connection(self.transport)
        try:
            with suppress(BrokenPipeError, ConnectionResetError):  # refused before all was sent: the answer says why
                connection.request(method, target, body=source, headers=headers, encode_chunked=size is None)
            response = connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise self._lost(error) from None
        finally:
            connection.close()
        if response.status >= 400:
            raise from_answer(response.status, response.reason, content)
        return json.loads(content or b"{}").get("data")

    @contextmanager
    def download(self, path: str, params: Params) -> Iterator[Body]:
        """GET a streamed body. One that ends early raises Unreachable."""
        connection = _Connection(self.transport)
        try:
            connection.request("GET", _with_query(path, params), headers=dict(self.transport.headers))
            response = connection.getresponse()
            if response.status >= 400:
                raise from_answer(response.status, response.reason, response.read())
            length = response.getheader("Content-Length")
            size = int(length) if length else None
            yield Body(size, response.getheader("Content-Type") or "", _whole(response, size))
        except http.client.HTTPException as error:
            raise self._lost(error) from None
        finally:
            connection.close()

    def close(self) -> None:
        """Close the kept connection; the next request opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _exchange(
        self, method: str, target: str, body: bytes | None, headers: dict[str, str]
    ) -> tuple[http.client.HTTPResponse, bytes]:
        if self._connection is not None and time.monotonic() - self._used > _IDLE_LIMIT:
            self.close()
        connection = self._connection or _Connection(self.transport)
        self._connection = connection
        try:
            connection.request(method, target, body=body, headers={**headers, **self.transport.headers})
            response = connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise self._lost(error) from None
        except BaseException:
            self.close()  # an answer half read must not be taken for the next one's
            raise
        self._used = time.monotonic()
        return response, content

    def _lost(self, error: Exception) -> Exception:
        if isinstance(error, TimeoutError):
            return DeadlineExceeded(f"the daemon did not answer within {ANSWER_DEADLINE:g} seconds")
        return Unreachable(f"the daemon closed the connection: {error or type(error).__name__}")

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _whole(response: http.client.HTTPResponse, length: int | None) -> Iterator[bytes]:
    """The chunks of a body; `read` itself does not tell that a body of a known length ended too early."""
    done = 0
    while chunk := response.read(_CHUNK):
        done += len(chunk)
        yield chunk
    if length is not None and done != length:
        raise Unreachable(f"the daemon closed the connection after {done} of {length} bytes")


def read_chunks(file: BinaryIO, size: int | None = None) -> Iterator[bytes]:
    """A file's content in chunks that suit an upload, at most `size` bytes: a file may grow while it is read."""
    left = size
    while chunk := file.read(_CHUNK if left is None else min(_CHUNK, left)):
        if left is not None:
            left -= len(chunk)
        yield chunk


def _quoted(text: str) -> str:
    return text.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")


def segment(text: str | int) -> str:
    """A value as one segment of a path."""
    return quote(str(text), safe="@!:")


def _encode(method: str, path: str, params: Params | None) -> tuple[str, bytes | None, dict[str, str]]:
    headers = {"Accept": "application/json"}
    if method in ("GET", "DELETE"):
        return _with_query(path, params or {}), None, headers
    if any(_is_nested(value) for value in (params or {}).values()):
        headers["Content-Type"] = "application/json"
        return PREFIX + path, json.dumps(params).encode(), headers
    headers["Content-Type"] = "application/x-www-form-urlencoded"
    return PREFIX + path, urlencode(_fields(params or {})).encode(), headers


def _is_nested(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return not value or any(map(_is_nested, value))
    return isinstance(value, Mapping)


def _with_query(path: str, params: Params) -> str:
    query = urlencode(_fields(params))
    return f"{PREFIX}{path}?{query}" if query else PREFIX + path


def _fields(params: Params) -> list[tuple[str, str]]:
    return [
        (key, str(int(item)) if isinstance(item, bool) else str(item))
        for key, value in params.items()
        for item in (value if isinstance(value, (list, tuple)) else (value,))
        if item is not None
    ]
