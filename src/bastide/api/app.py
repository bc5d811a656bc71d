"""The FastAPI application: every branch below `/api2/json` and `/api2/extjs`, the OpenAPI document, and the web page.

app = create_app(services)
"""

import functools
import gzip
import hashlib
import json
import re
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, WebSocketRoute
from starlette.routing import Route as HttpRoute

from bastide.api import branches
from bastide.api.answers import failure, walled
from bastide.api.dispatch import Endpoint, not_implemented
from bastide.api.encodings import takes
from bastide.api.errors import problem_of
from bastide.api.openapi import document
from bastide.api.page import Page
from bastide.api.routing import Route, named
from bastide.api.services import Services

PREFIXES = ("/api2/json", "/api2/extjs")


def create_app(services: Services, page: Page | None = None) -> FastAPI:
    """Build the application. It holds no state but `services`."""
    app = FastAPI(
        title="Bastide",
        version=services.version,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        telemetry={"tracing": False, "metrics": False, "logs": False},
        exception_handlers={Exception: _last_resort},
    )
    app.add_middleware(_TidyPath)
    declared = branches.routes()
    app.router.routes.append(_Table([_mounted(prefix, route, services) for prefix in PREFIXES for route in declared]))
    app.router.routes.append(HttpRoute("/openapi.json", _openapi(services, declared), include_in_schema=False))
    app.router.default = _fallback(services, page or Page())
    return app


class _TidyPath:
    """Takes doubled slashes and one at the end out of the path, as Proxmox VE's server does."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] in ("http", "websocket") and ("//" in scope["path"] or scope["path"][-1:] == "/"):
            scope["path"] = re.sub("/+", "/", scope["path"]).rstrip("/") or "/"
        await self._app(scope, receive, send)


def _mounted(prefix: str, route: Route, services: Services) -> HttpRoute | WebSocketRoute:
    endpoint = Endpoint(route, services)
    if route.websocket:
        return WebSocketRoute(prefix + route.pattern, endpoint.socket)
    return _OneMethod(prefix + route.pattern, endpoint.http, methods=[route.method])


class _OneMethod(HttpRoute):
    """A route that does not claim its path for the methods it lacks: those are other routes', or a 501."""

    def matches(self, scope: Any) -> Any:
        """Match only when the method does."""
        match, child = super().matches(scope)
        if match.name == "PARTIAL":
            return type(match).NONE, {}
        if "path_params" in child:
            child["path_params"] = named(child["path_params"])
        return match, child


class _Table(BaseRoute):
    """Many routes as one: only those that have the request's method and as many parts in their path are asked."""

    def __init__(self, routes: Sequence[HttpRoute | WebSocketRoute]) -> None:
        self._routes = routes
        self._most = max(route.path.count("/") for route in routes) + 1
        self._alike: dict[tuple[str, str, int], list[HttpRoute | WebSocketRoute]] = {}

    def matches(self, scope: Any) -> Any:
        """The match of the first route that has one."""
        method = "" if scope["type"] == "websocket" else scope["method"]
        key = (scope["type"], method, min(scope["path"].count("/"), self._most))
        if key not in self._alike:
            known = [route for route in self._routes if _alike(route, *key)]
            if not known:  # methods can be invented: nothing is remembered of those
                return Match.NONE, {}
            self._alike[key] = known
        for route in self._alike[key]:
            match, child = route.matches(scope)
            if match is Match.FULL:
                return match, {**child, "bastide.route": route}
        return Match.NONE, {}

    async def handle(self, scope: Any, receive: Any, send: Any) -> None:
        """Let the route answer that matched."""
        await scope["bastide.route"].handle(scope, receive, send)


def _alike(route: HttpRoute | WebSocketRoute, kind: str, method: str, parts: int) -> bool:
    if isinstance(route, WebSocketRoute):
        fits = kind == "websocket"
    else:
        fits = kind == "http" and route.methods is not None and method in route.methods
    # A placeholder that takes the rest of the path takes any number of parts.
    return fits and (route.path.count("/") == parts or (":path}" in route.path and route.path.count("/") < parts))


def _openapi(services: Services, declared: list[Route]) -> Any:
    @functools.cache
    def made() -> tuple[bytes, bytes, str]:
        body = json.dumps(document(declared, services.version), separators=(",", ":")).encode()
        return body, gzip.compress(body, mtime=0), f'"{hashlib.sha256(body).hexdigest()[:32]}"'

    async def serve_document(request: Request) -> Response:
        body, packed, tag = made()
        headers = {
            "etag": tag,
            "cache-control": "no-cache",
            "vary": "accept-encoding",
            "x-content-type-options": "nosniff",
        }
        if request.headers.get("if-none-match") in (tag, f"W/{tag}"):
            return Response(status_code=304, headers=headers)
        if takes(request, "gzip"):
            return Response(packed, media_type="application/json", headers={**headers, "content-encoding": "gzip"})
        return Response(body, media_type="application/json", headers=headers)

    return serve_document


def _fallback(services: Services, page: Page) -> Any:
    async def fallback(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})
            return
        request = Request(scope, receive)
        response = page.answer(request) or await not_implemented(services, request)
        await response(scope, receive, send)

    return fallback


async def _last_resort(request: Request, error: Exception) -> Response:
    return walled(await failure(request, problem_of(error)))
