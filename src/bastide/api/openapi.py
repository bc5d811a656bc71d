"""The OpenAPI 3.1 document, made of the routes and their parameter records.

Indexed keys (`net0` ... `net31`) are `patternProperties`; in a query they are one parameter `net[n]`. A write's body
is offered as a form and as JSON. Booleans may also be written 0 and 1.

`python -m bastide.api.openapi` prints it, for the page's build.
"""

import importlib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, get_args, get_type_hints

from pydantic import TypeAdapter
from starlette.responses import Response

from bastide import __version__
from bastide.api.answers import Answer
from bastide.api.routing import NoParameters, NotBuilt, Route
from bastide.model.record import Record, indexed_fields

_ERROR = {
    "description": "an error; the reason phrase is the message's first line",
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "properties": {
                    "data": {"type": "null"},
                    "message": {"type": "string"},
                    "errors": {"type": "object", "additionalProperties": {"type": "string"}},
                },
                "required": ["data", "message"],
            }
        }
    },
}
_BODY_TYPES = ("application/x-www-form-urlencoded", "application/json")


def document(routes: Iterable[Route], version: str) -> dict[str, Any]:
    """The whole document of the `json` format's routes."""
    routes = list(routes)
    answers, schemas = _answers(routes)
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        item = paths.setdefault("/api2/json" + route.path, {})
        item[route.method.lower()] = _operation(route, answers)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Bastide",
            "version": version,
            "description": "Proxmox VE's API, and what lies beside it under /bastide and /architect.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"ticket": [], "csrf": []}, {"token": []}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "ticket": {"type": "apiKey", "in": "cookie", "name": "PVEAuthCookie"},
                "csrf": {"type": "apiKey", "in": "header", "name": "CSRFPreventionToken"},
                "token": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "Authorization",
                    "description": "PVEAPIToken=user@realm!name=secret",
                },
            },
        },
    }


def operation_id(route: Route) -> str:
    """`get_nodes_lxc_config`: the method, the path's words, and the last placeholder if the path ends with one."""
    parts = [part for part in route.path.split("/") if part]
    words = [part.strip("{}") for index, part in enumerate(parts) if part[0] != "{" or index == len(parts) - 1]
    return "_".join([route.method.lower(), *words]).replace("-", "_")


def _answers(routes: Iterable[Route]) -> tuple[dict[int, Any], dict[str, Any]]:
    """The schemas of what routes answer with, by the id of the route, and what they refer to by name.

    A route whose answer is not declared tells it by its handler's return type, where that says all.
    """
    found = {id(route): answered(route) for route in routes}
    adapters = [(key, "serialization", TypeAdapter(kind)) for key, kind in found.items() if kind is not None]
    schemas, shared = TypeAdapter.json_schemas(adapters, ref_template="#/components/schemas/{model}")  # type: ignore[arg-type]
    return {int(key): schema for (key, _), schema in schemas.items()}, shared.get("$defs", {})


def answered(route: Route) -> Any:
    """The type of a route's `data`; None when it is not known."""
    kind = get_type_hints(route.handler).get("return") if route.answer is None else route.answer
    if kind is Answer or (isinstance(kind, type) and issubclass(kind, Response)):
        return None
    return None if _vague(kind) else kind


def _vague(kind: Any) -> bool:
    return kind is Any or any(_vague(part) for part in get_args(kind))


def _success(route: Route, answers: Mapping[int, Any]) -> dict[str, Any]:
    data = answers.get(id(route), {})
    schema = {"type": "object", "properties": {"data": data}, "required": ["data"]}
    return {"description": "the result", "content": {"application/json": {"schema": schema}}}


def _operation(route: Route, answers: Mapping[int, Any]) -> dict[str, Any]:
    summary, _, description = (route.handler.__doc__ or "").strip().partition("\n\n")
    properties, patterns, required = record_schema(route.body or route.parameters)
    in_path = set(re.findall(r"\{([^}]+)\}", route.path))
    operation: dict[str, Any] = {
        "operationId": operation_id(route),
        "summary": " ".join(summary.split()),
        "tags": [route.path.split("/")[1]],
        "parameters": [
            {
                "name": name,
                "in": "path",
                "required": True,
                "schema": properties.get(name, {"type": "string"}),
            }
            for name in re.findall(r"\{([^}]+)\}", route.path)
        ],
        "responses": {"200": _success(route, answers), **dict.fromkeys(("400", "403", "500", "501"), _ERROR)},
        "x-permissions": route.permissions(),
    }
    operation["responses"]["401"] = {"description": "not logged in; no body"}
    if route.needs is not None:
        operation["x-needs"] = route.needed()
    if route.user == "world":
        operation["security"] = []
    if description:
        operation["description"] = " ".join(description.split())
    rest = {name: schema for name, schema in properties.items() if name not in in_path}
    needed = sorted(required - in_path)
    if route.method in ("GET", "DELETE"):
        operation["parameters"] += _query(rest, patterns, set(needed))
    elif rest or patterns:
        operation["requestBody"] = _body(route, rest, patterns, needed)
    return operation


def _query(rest: dict[str, Any], patterns: dict[str, Any], needed: set[str]) -> list[dict[str, Any]]:
    listed = [
        {"name": name, "in": "query", "required": name in needed, "schema": schema} for name, schema in rest.items()
    ]
    return listed + [
        {"name": name + "[n]", "in": "query", "required": False, "schema": schema} for name, schema in patterns.items()
    ]


def _body(route: Route, rest: dict[str, Any], patterns: dict[str, Any], needed: list[str]) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object", "properties": rest, "additionalProperties": False}
    if patterns:
        schema["patternProperties"] = {rf"^{name}\d+$": value for name, value in patterns.items()}
    if needed:
        schema["required"] = needed
    if route.raw:
        media = {"multipart/form-data": {"schema": schema}}
    else:
        media = {kind: {"schema": schema} for kind in _BODY_TYPES}
    return {"required": bool(needed), "content": media}


def record_schema(kind: type[Record]) -> tuple[dict[str, Any], dict[str, Any], set[str]]:
    """(properties, schemas of the indexed keys by stem, required keys) of a record, without references."""
    if kind is NoParameters:
        return {}, {}, set()
    full = kind.model_json_schema(by_alias=True)
    definitions = full.get("$defs", {})
    indexed = indexed_fields(kind)
    unbuilt = {
        info.alias or name
        for name, info in kind.model_fields.items()
        if any(isinstance(mark, NotBuilt) for mark in info.metadata)
    }
    properties: dict[str, Any] = {}
    patterns: dict[str, Any] = {}
    for name, schema in full.get("properties", {}).items():
        plain = _plain(schema, definitions)
        if name in indexed:
            patterns[indexed[name]] = _plain(plain.get("additionalProperties", {"type": "string"}), definitions)
        else:
            properties[name] = plain
        if name in unbuilt:
            plain["description"] = "known, not built yet: giving it is answered with 501"
    return properties, patterns, set(full.get("required", []))


def _plain(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """A schema with its references resolved, without titles, and without `null` among its alternatives."""
    if "$ref" in schema:
        rest = {key: value for key, value in schema.items() if key != "$ref"}
        schema = {**definitions[schema["$ref"].rpartition("/")[2]], **rest}
    if "anyOf" in schema:
        kinds = [_plain(part, definitions) for part in schema["anyOf"] if part.get("type") != "null"]
        rest = {key: value for key, value in schema.items() if key != "anyOf"}
        schema = {**kinds[0], **rest} if len(kinds) == 1 else {**rest, "anyOf": kinds}
    plain = {key: value for key, value in schema.items() if key != "title" and not (key == "default" and value is None)}
    for key in ("items", "additionalProperties"):
        if isinstance(plain.get(key), dict):
            plain[key] = _plain(plain[key], definitions)
    for key in ("properties", "x-properties"):
        if isinstance(plain.get(key), dict):
            plain[key] = {name: _plain(part, definitions) for name, part in plain[key].items()}
    return plain


def main() -> None:
    """Print the document of this API."""
    branches = importlib.import_module("bastide.api.branches")  # which imports what this module describes
    print(json.dumps(document(branches.routes(), __version__), indent=1))


if __name__ == "__main__":
    main()
