"""Gathering a call's parameters from path, query and body into one flat mapping of texts.

Proxmox's clients send bodies as forms, as multipart, as JSON, as nothing, and without any Content-Type; query and
body are merged. Values become text (`true` -> `1`), a repeated key becomes a list. What they mean is the record's job.
"""

import asyncio
import json
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar, get_args, get_origin
from urllib.parse import parse_qsl

from pydantic.fields import FieldInfo
from starlette.requests import HTTPConnection, Request

from bastide.api.errors import RequestRefused
from bastide.api.multipart import text_fields
from bastide.base.errors import InvalidParameter
from bastide.model.record import Record

BODY_LIMIT = 512 * 1024
BODY_DEADLINE = 30.0
_FIELD_LIMIT = 2000
# Bytes over the limit that are read and dropped, so that the sender gets to read why it is refused.
_PATIENCE = 8 * 1024 * 1024
_IGNORED = frozenset({"_dc"})  # the browser's cache buster

Text = str | list[str]
P = TypeVar("P", bound=Record)


async def gather(request: Request, path: Mapping[str, str]) -> dict[str, Text]:
    """All parameters of a request. Raises InvalidParameter, and RequestRefused for a body that cannot be taken."""
    pairs = query_pairs(request)
    if request.method in ("POST", "PUT", "DELETE"):
        pairs += _body_pairs(request, await read_body(request))
    return merge(path, pairs)


async def gather_nested(request: Request, path: Mapping[str, str]) -> dict[str, Any]:
    """All parameters of a request whose JSON body may hold mappings and lists of them. Raises as `gather` does."""
    body = await read_body(request)
    if not _is_json(request, body):
        return dict(merge(path, query_pairs(request) + _body_pairs(request, body)))
    given = {key: value for key, value in _json_object(body).items() if value is not None and key not in _IGNORED}
    return {**given, **merge(path, query_pairs(request))}


def query_pairs(connection: HTTPConnection) -> list[tuple[str, str]]:
    """The query's keys and values in order."""
    return _form_pairs(connection.scope.get("query_string", b""))


def merge(path: Mapping[str, str], pairs: Iterable[tuple[str, str]]) -> dict[str, Text]:
    """One mapping; a key given twice becomes a list. Raises InvalidParameter when the path says otherwise."""
    merged: dict[str, Text] = {}
    for key, value in pairs:
        if key in _IGNORED:
            continue
        before = merged.get(key)
        if before is None:
            merged[key] = value
        elif isinstance(before, list):
            before.append(value)
        else:
            merged[key] = [before, value]
    for key, value in path.items():
        if merged.get(key, value) not in (value, [value]):
            raise InvalidParameter({key: "duplicate parameter (already defined in URI) with conflicting values!"})
        merged[key] = value
    return merged


def parse(kind: type[P], values: Mapping[str, Any]) -> P:
    """Build a parameters record. Texts in a list are joined by commas where the record wants one, as Proxmox does."""
    shaped: dict[str, Any] = {}
    lists = list_fields(kind)
    for key, value in values.items():
        if key in lists:
            shaped[key] = [value] if isinstance(value, str) else value
        elif isinstance(value, list) and all(isinstance(item, str) for item in value):
            shaped[key] = ",".join(value)
        else:
            shaped[key] = value
    return kind.parse(shaped)


def list_fields(kind: type[Record]) -> frozenset[str]:
    """The keys of a record that take several values."""
    return frozenset(field.alias or name for name, field in kind.model_fields.items() if _is_list(field))


def _is_list(field: FieldInfo) -> bool:
    kinds = [field.annotation, *get_args(field.annotation)]
    return any((get_origin(kind) or kind) in (list, tuple) for kind in kinds)


async def read_body(request: Request, limit: int = BODY_LIMIT) -> bytes:
    """The whole body. Raises RequestRefused: 413 when it is larger than `limit` bytes, 408 when it stalls."""
    body = bytearray()
    size = 0
    try:
        async with asyncio.timeout(BODY_DEADLINE):
            async for chunk in request.stream():
                size += len(chunk)
                if size <= limit:
                    body += chunk
                elif size > limit + _PATIENCE:
                    break
    except TimeoutError:
        raise RequestRefused(408, "the request's body did not arrive in time") from None
    if size > limit:
        raise RequestRefused(413, f"for data too large (limit {limit} bytes)")
    return bytes(body)


def _content_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _is_json(request: Request, body: bytes) -> bool:
    kind = _content_type(request)
    return bool(body.strip()) and (kind == "application/json" or (kind == "" and body.lstrip()[:1] == b"{"))


def _body_pairs(request: Request, body: bytes) -> list[tuple[str, str]]:
    if not body.strip():
        return []
    kind = _content_type(request)
    if kind == "multipart/form-data":
        return text_fields(request.headers.get("content-type", ""), body)
    if _is_json(request, body):
        return _json_pairs(body)
    if kind in ("application/x-www-form-urlencoded", ""):
        return _form_pairs(body)
    raise RequestRefused(415, f"content type '{kind[:60]}' is not a form, multipart or JSON")


def _form_pairs(body: bytes) -> list[tuple[str, str]]:
    try:
        text = body.decode("ascii")
    except UnicodeDecodeError:
        text = _utf8(body)
    try:
        return parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=_FIELD_LIMIT)
    except UnicodeDecodeError:
        raise RequestRefused(400, "the parameters are not UTF-8") from None
    except ValueError:
        raise RequestRefused(400, f"more than {_FIELD_LIMIT} parameters") from None


def _utf8(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError:
        raise RequestRefused(400, "the parameters are not UTF-8") from None


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        values = json.loads(body)
    except (ValueError, RecursionError):
        raise RequestRefused(400, "the body is not JSON") from None
    if not isinstance(values, dict):
        raise RequestRefused(400, "the body is not a JSON object")
    return values


def _json_pairs(body: bytes) -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    for key, value in _json_object(body).items():
        items = value if isinstance(value, list) else [value]
        for item in items:
            if isinstance(item, dict | list):
                raise InvalidParameter({key: "a nested value is not allowed here"})
            if item is not None:
                pairs.append((key, _text(item)))
    return pairs


def _text(value: Any) -> str:
    return str(int(value)) if isinstance(value, bool) else str(value)
