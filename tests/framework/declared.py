"""Answers held against the types that the routes declare, which is what the OpenAPI document and the page go by."""

import json
import re
from functools import cache
from typing import Any

from pydantic import TypeAdapter, ValidationError

from bastide.api.branches import routes
from bastide.api.openapi import answered
from bastide.api.routing import Route


@cache
def _declared() -> list[tuple[str, re.Pattern[str], Route]]:
    found = []
    for route in routes():
        pattern = re.sub(r"\\\{volume(:path)?\\\}", "(.+)", re.escape(route.pattern))
        found.append((route.method, re.compile(re.sub(r"\\\{[^}]+\\\}", "[^/]+", pattern)), route))
    return found


@cache
def _adapter(index: int) -> TypeAdapter[Any] | None:
    kind = answered(_declared()[index][2])
    return None if kind is None else TypeAdapter(kind)


def faults(method: str, path: str, data: Any) -> list[str]:
    """What an answer's `data` has that its route does not declare, or lacks; the path is below the wire format."""
    for index, (verb, pattern, _) in enumerate(_declared()):
        if verb == method and pattern.fullmatch(path):
            adapter = _adapter(index)
            if adapter is None:
                return []
            try:
                # To a record's own checks JSON's lists are Python's, which strictly are no tuples.
                adapter.validate_json(json.dumps(data), strict="'type': 'model'" not in repr(adapter.core_schema))
            except ValidationError as error:
                return [f"{method} {path}: {'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
            return []
    return [f"{method} {path}: no route declares it"]
