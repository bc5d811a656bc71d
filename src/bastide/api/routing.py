"""Routes as data: a method, a path, the permission of the reference, a record of parameters, a handler.

    branch = Branch("/nodes/{node}/lxc")

    @branch.get("/{vmid}/config", ConfigQuery, check=("perm", "/vms/{vmid}", ("VM.Audit",)))
    async def read_config(call: Call, p: ConfigQuery) -> dict[str, Any]: ...

`app.py` mounts every branch below both wire formats; `openapi.py` reads the same data.
"""

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from starlette.requests import HTTPConnection, Request
from starlette.websockets import WebSocket

from bastide.access.access import Access
from bastide.api.services import Services
from bastide.base.errors import MethodNotImplemented, PermissionDenied
from bastide.model.access import ROOT, Identity
from bastide.model.audit import Event
from bastide.model.record import Record
from bastide.operations.rooms import Rooms

Check = tuple[Any, ...]
"""A permission in the reference's nested form, such as `("perm", "/vms/{vmid}", ("VM.Audit",))`."""

Anyone = Literal["all", "world"]
Handler = Callable[["Call", Any], Awaitable[Any]]
H = TypeVar("H", bound=Callable[..., Awaitable[Any]])


class NoParameters(Record):
    """A method without parameters."""


@dataclass(frozen=True, slots=True)
class NotBuilt:
    """Marks a parameter of the reference that is known but not built: giving it is answered with 501.

    With `root_only` it is answered with 403 to everybody but root@pam, who alone could ever use it.
    """

    root_only: bool = False


@dataclass(frozen=True)
class Call:
    """One call: who makes it, what answers it, and the connection for what is not a parameter.

    `identity` is None only on methods open to the world. On a WebSocket `websocket` is set instead of `request`.
    `values` are the parameters as they were sent, for the audit log; a handler that reads its body adds what it found.
    """

    services: Services
    caller: Identity | None
    connection: HTTPConnection
    path_parameters: dict[str, str] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)

    @property
    def identity(self) -> Identity:
        """The caller; methods open to the world look at `caller` instead."""
        if self.caller is None:
            raise RuntimeError("a method open to the world has no identity")
        return self.caller

    @property
    def rooms(self) -> Rooms:
        """The rooms, the operations' first argument."""
        return self.services.rooms

    @property
    def access(self) -> Access:
        """Access control."""
        return self.services.access

    @property
    def request(self) -> Request:
        """The HTTP request, for raw bodies."""
        if not isinstance(self.connection, Request):
            raise RuntimeError("a WebSocket has no request")
        return self.connection

    @property
    def websocket(self) -> WebSocket:
        """The WebSocket."""
        if not isinstance(self.connection, WebSocket):
            raise RuntimeError("an HTTP request has no WebSocket")
        return self.connection

    @property
    def is_root(self) -> bool:
        """Whether the caller is root@pam itself, not by a token."""
        return self.identity == ROOT

    async def may(self, path: str, *privileges: str, any_of: bool = False) -> bool:
        """Whether the caller has all (or any) of the privileges on a path of the access tree."""
        return (await self.access.authority()).allows(self.identity, path, privileges, any=any_of)

    async def require(self, path: str, *privileges: str, any_of: bool = False) -> None:
        """Raise PermissionDenied (`Permission check failed (PATH, PRIV)`) unless `may`."""
        (await self.access.authority()).check(self.identity, path, privileges, any=any_of)


@dataclass(frozen=True)
class Route:
    """A declared method. `path` is relative to the wire format's prefix.

    `raw` routes read their body themselves and may return a Response; `websocket` ones take over the connection.
    `allow_token` is false for the few methods that an API token may not call. `body` describes what a raw route reads
    itself, for the document. A `nested` route's JSON body may hold mappings and lists of them. `answer` is the type of
    `data`, for the document; without one the handler's return type says it. `event` is what a call is in the audit log;
    None keeps it out, as a look.
    """

    method: str
    path: str
    parameters: type[Record]
    handler: Handler
    check: Check | None
    user: Anyone | None
    raw: bool = False
    websocket: bool = False
    allow_token: bool = True
    body: type[Record] | None = None
    nested: bool = False
    answer: Any = None
    needs: Check | None = None
    event: Event | None = None

    @property
    def pattern(self) -> str:
        """The path as the router wants it: a volume id may hold slashes, so it takes the rest of the path.

        A placeholder's name may hold no `-` there: `__` stands for it, and `named` undoes that.
        """
        return re.sub(r"\{[^}]+\}", lambda found: found[0].replace("-", "__"), self.path).replace(
            "{volume}", "{volume:path}"
        )

    def permissions(self) -> dict[str, Any] | None:
        """The permission in the reference's form; None means root@pam alone."""
        if self.user is None and self.check is None:
            return None
        declared: dict[str, Any] = {}
        if self.check is not None:
            declared["check"] = _lists(self.check)
        if self.user is not None:
            declared["user"] = self.user
        return declared

    def needed(self) -> Any:
        """What the route asks for in words, in the reference's form; None when it says nothing."""
        return _lists(self.needs)

    def refuse_unbuilt(self, params: Record, caller: Identity | None) -> None:
        """Raise MethodNotImplemented or PermissionDenied for a parameter that is given (and not off) but not built."""
        for name, info in type(params).model_fields.items():
            mark = next((mark for mark in info.metadata if isinstance(mark, NotBuilt)), None)
            if mark is None or getattr(params, name) in (None, False, ""):
                continue
            if mark.root_only and caller != ROOT:
                raise PermissionDenied(f"Permission check failed (only root may use '{info.alias or name}')")
            raise MethodNotImplemented(f"parameter '{info.alias or name}' not implemented")


class Branch:
    """The methods below one path."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.routes: list[Route] = []

    def get(self, path: str, parameters: type[Record] = NoParameters, **options: Any) -> Callable[[H], H]:
        """Declare a GET; options: check, user, raw, allow_token, answer, event."""
        return self._declare("GET", path, parameters, options)

    def post(self, path: str, parameters: type[Record] = NoParameters, **options: Any) -> Callable[[H], H]:
        """Declare a POST; beside a GET's options: body, nested. Its `event` is a write unless it says otherwise."""
        return self._declare("POST", path, parameters, options)

    def put(self, path: str, parameters: type[Record] = NoParameters, **options: Any) -> Callable[[H], H]:
        """Declare a PUT."""
        return self._declare("PUT", path, parameters, options)

    def delete(self, path: str, parameters: type[Record] = NoParameters, **options: Any) -> Callable[[H], H]:
        """Declare a DELETE."""
        return self._declare("DELETE", path, parameters, options)

    def websocket(self, path: str, parameters: type[Record] = NoParameters, **options: Any) -> Callable[[H], H]:
        """Declare a WebSocket; the handler gets the call (with `call.websocket`, not yet accepted) and parameters."""
        return self._declare("GET", path, parameters, {"event": "console", **options, "websocket": True})

    def _declare(self, method: str, path: str, parameters: type[Record], options: dict[str, Any]) -> Callable[[H], H]:
        def keep(handler: H) -> H:
            self.routes.append(
                Route(
                    method=method,
                    path=self.prefix + path,
                    parameters=parameters,
                    handler=handler,
                    check=options.get("check"),
                    user=options.get("user"),
                    raw=options.get("raw", False),
                    websocket=options.get("websocket", False),
                    allow_token=options.get("allow_token", True),
                    body=options.get("body"),
                    nested=options.get("nested", False),
                    answer=options.get("answer"),
                    needs=options.get("needs"),
                    event=options.get("event", None if method == "GET" else "write"),
                )
            )
            return handler

        return keep


def named(path_parameters: Mapping[str, Any]) -> dict[str, Any]:
    """What the router found in a path, by the names in the route's own path."""
    return {name.replace("__", "-"): value for name, value in path_parameters.items()}


def _lists(value: Any) -> Any:
    return [_lists(item) for item in value] if isinstance(value, tuple) else value
