"""The path of a call: who, parameters, permission, handler, answer. Every method takes it.

The permission is decided on the values as the record read them (`vmid= 100` is `/vms/100`), and before the caller
learns which of them are wrong. A body is not read before the caller is known, except at the login.
"""

import re
from collections.abc import Mapping
from typing import Any

from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.websockets import WebSocket

from bastide.access.checks import enforce
from bastide.api import parameters
from bastide.api.answers import failure, success, walled
from bastide.api.auditing import Note
from bastide.api.auth import check_origin, identify
from bastide.api.errors import problem_of
from bastide.api.routing import Call, Route
from bastide.api.services import Services
from bastide.base.errors import (
    AuthenticationFailed,
    InvalidParameter,
    MethodNotImplemented,
    NotFound,
    PermissionDenied,
)
from bastide.model.access import Identity
from bastide.model.guest import Kind
from bastide.model.record import Record

_GUEST_PATH = re.compile(r"/nodes/\{node\}/(lxc|qemu)/\{vmid\}")


class Endpoint:
    """A route as Starlette calls it."""

    def __init__(self, route: Route, services: Services) -> None:
        self._route = route
        self._services = services

    async def http(self, request: Request) -> Response:
        """Answer an HTTP request; never raises."""
        note = Note(self._services, self._route, request)
        try:
            call, params = await self._admit(request, note)
            result = await self._route.handler(call, params)
            note.done(result)
            return walled(result if isinstance(result, Response) else await success(request, result))
        except Exception as error:
            problem = problem_of(error)
            note.refused(problem, error)
            return walled(await failure(request, problem))
        finally:
            note.interrupted()

    async def socket(self, websocket: WebSocket) -> None:
        """Serve a WebSocket; a refusal is an HTTP answer to its handshake."""
        note = Note(self._services, self._route, websocket)
        try:
            check_origin(websocket)
            call, params = await self._admit(websocket, note)
            await self._route.handler(call, params)
        except Exception as error:
            problem = problem_of(error)
            note.refused(problem, error)
            if websocket.application_state.name == "CONNECTING":
                await websocket.send_denial_response(await failure(websocket, problem))
            elif websocket.application_state.name == "CONNECTED":
                await websocket.close(1011, problem.message[:100])

    async def _admit(self, connection: HTTPConnection, note: Note) -> tuple[Call, Record]:
        route = self._route
        caller = note.caller = await self._caller(connection)
        values = note.values = await self._values(connection)
        params, fault = _parse(route.parameters, values)
        if caller is not None:
            shown = dict(values) if params is None else {**values, **_texts(params)}
            await authorize(self._services, route, caller, shown)
        if fault is not None or params is None:
            raise fault or InvalidParameter({})
        _refuse_other_spellings(params, connection.path_params)
        self._check_node(params)
        await self._check_guest(params)
        route.refuse_unbuilt(params, caller)
        return Call(self._services, caller, connection, dict(connection.path_params), values), params

    async def _caller(self, connection: HTTPConnection) -> Identity | None:
        method = connection.scope.get("method", "GET")
        try:
            return await identify(self._services.access, connection, method=method)
        except AuthenticationFailed:
            if self._route.user == "world":
                return None
            raise

    async def _values(self, connection: HTTPConnection) -> dict[str, Any]:
        path = {name: str(value) for name, value in connection.path_params.items()}
        if isinstance(connection, Request) and self._route.nested:
            return await parameters.gather_nested(connection, path)
        if isinstance(connection, Request) and not self._route.raw:
            return dict(await parameters.gather(connection, path))
        return dict(parameters.merge(path, parameters.query_pairs(connection)))

    def _check_node(self, params: Record) -> None:
        if "{node}" not in self._route.path:
            return
        name = getattr(params, "node", None)
        if name is not None and name not in (self._services.node, "localhost"):
            raise NotFound(f"no such cluster node '{name}'")

    async def _check_guest(self, params: Record) -> None:
        """Raise NotFound for a guest that does not exist, or is of the other kind than the path says."""
        found = _GUEST_PATH.match(self._route.path)
        if found is not None:
            kind: Kind = "lxc" if found[1] == "lxc" else "qemu"
            await self._services.rooms.guests.get(getattr(params, "vmid", 0), kind)


async def authorize(services: Services, route: Route, caller: Identity, values: Mapping[str, Any]) -> None:
    """Raise PermissionDenied unless the route's declared permission lets the caller in."""
    if caller.token is not None and not route.allow_token:
        raise PermissionDenied(
            f"Permission check failed (URI '{route.path}' not available with API token, need proper ticket)"
        )
    if route.user is not None:
        return
    flat = {key: ",".join(map(str, value)) if isinstance(value, list) else str(value) for key, value in values.items()}
    await enforce(services.access, caller, route.check, flat)


async def not_implemented(services: Services, request: Request) -> Response:
    """The answer to whatever no route knows: 501, or 401 to a stranger."""
    note = Note(services, None, request)
    try:
        note.caller = await identify(services.access, request, method="GET")
        path = request.url.path.removeprefix("/api2/json").removeprefix("/api2/extjs")
        raise MethodNotImplemented(f"Method '{request.method} {path or '/'}' not implemented")
    except Exception as error:
        problem = problem_of(error)
        note.refused(problem, error)
        return walled(await failure(request, problem))


def _parse(kind: type[Record], values: Mapping[str, Any]) -> tuple[Record | None, InvalidParameter | None]:
    try:
        return parameters.parse(kind, values), None
    except InvalidParameter as error:
        return None, error


def _refuse_other_spellings(params: Record, path: Mapping[str, object]) -> None:
    """A place in the path has one spelling: `/lxc/0100` and `/lxc/ 100` are not `/lxc/100`. Raises InvalidParameter."""
    texts = params.to_text()
    for name, given in path.items():
        if str(texts.get(name, given)) != given:
            raise InvalidParameter({name: f"invalid format - write '{texts[name]}'"})


def _texts(params: Record) -> dict[str, parameters.Text]:
    return {key: str(value) for key, value in params.to_text().items()}
