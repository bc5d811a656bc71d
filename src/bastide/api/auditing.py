"""Which calls go into the audit log, and what of them.

Every method but GET, also when it is refused; every WebSocket; logins; and what leaves guests as a file. A call of a
stranger is recorded without its body, which nobody reads.
"""

import re
from collections.abc import Mapping
from typing import Any

from starlette.requests import HTTPConnection
from starlette.responses import Response

from bastide.api.auth import find_token, is_local
from bastide.api.errors import Problem
from bastide.api.routing import Route
from bastide.api.services import Services
from bastide.base.errors import AuthenticationFailed
from bastide.model.access import Identity
from bastide.model.audit import AuditRecord, Event, shown

NOTE = "bastide.audit"
"""In the scope of a connection, the note of its call."""

_LOOKS = frozenset({"GET", "HEAD", "OPTIONS"})
_TOKEN = re.compile(r"([^\s:/!=]{1,64}![A-Za-z][A-Za-z0-9._-]{0,63})=")


class Note:
    """One call on its way into the log. `caller` and `values` are filled in as they become known."""

    def __init__(self, services: Services, route: Route | None, connection: HTTPConnection) -> None:
        self._services = services
        self._route = route
        self._connection = connection
        self._written = False
        self.caller: Identity | None = None
        self.values: dict[str, Any] = {}
        connection.scope[NOTE] = self

    def opened(self) -> None:
        """A WebSocket was accepted: that is recorded now, not at its end."""
        self._write(101)

    def done(self, result: Any) -> None:
        """The handler's result."""
        status = result.status_code if isinstance(result, Response) else 200
        if not self._is_renewal():
            self._write(status, upid=_upid(result), user=_user(result))
        self._written = True

    def refused(self, problem: Problem, error: Exception) -> None:
        """What the call ended with."""
        why = "; ".join([problem.message, *(f"{key}: {text}" for key, text in problem.errors.items())])
        self._write(problem.status, error=why, by_token=isinstance(error, AuthenticationFailed))

    def interrupted(self) -> None:
        """The daemon ended during the call; nothing when an end was recorded."""
        self._write(0, error="interrupted")

    def _write(
        self, status: int, *, upid: str | None = None, error: str | None = None, user: str = "", by_token: bool = False
    ) -> None:
        event = self._event(by_token=by_token)
        if self._written or event is None:
            return
        self._written = True
        scope = self._connection.scope
        self._services.audit.write(
            AuditRecord(
                event=event,
                user=str(self.caller) if self.caller is not None else user or self._claimed(event),
                address=_address(self._connection),
                method=str(scope.get("method", "GET")),
                path=str(scope["path"]),
                status=status,
                parameters=self._parameters(),
                upid=upid,
                error=error,
            )
        )

    def _event(self, *, by_token: bool) -> Event | None:
        if self._route is not None and self._route.event is not None:
            return self._route.event
        if by_token and find_token(self._connection) is not None:
            return "login"  # a token is a login with every call
        return None if self._connection.scope.get("method") in _LOOKS or self._route is not None else "write"

    def _parameters(self) -> dict[str, str]:
        if self._route is None:
            return {}
        path = self._connection.path_params
        given = {key: value for key, value in self.values.items() if key not in path}
        return shown(self._route.body or self._route.parameters, given)

    def _claimed(self, event: Event) -> str:
        """Who a stranger says to be: at a login the name, else the token's."""
        if event == "login" and isinstance(name := self.values.get("username"), str):
            realm = self.values.get("realm")
            return name[:64] if not isinstance(realm, str) or name.endswith(f"@{realm}") else f"{name}@{realm}"[:96]
        match = _TOKEN.match(find_token(self._connection) or "")
        return match[1] if match else ""

    def _is_renewal(self) -> bool:
        """Whether a ticket was renewed with itself."""
        password = self.values.get("password")
        return self._event(by_token=False) == "login" and isinstance(password, str) and password.startswith("PVE:")


def _address(connection: HTTPConnection) -> str:
    if is_local(connection):
        return "socket"
    return connection.client.host if connection.client else ""


def _upid(result: Any) -> str | None:
    """The task that a call began: its answer, or the answer's `upid`."""
    found = result.get("upid") if isinstance(result, Mapping) else result
    return found if isinstance(found, str) and found.startswith("UPID:") else None


def _user(result: Any) -> str:
    """Who has logged in, where the answer says so."""
    found = result.get("username") if isinstance(result, Mapping) else None
    return found if isinstance(found, str) else ""
