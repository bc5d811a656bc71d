"""Who may call what: the reference's decision for every method that is built and everybody in its table.

Each call goes through the whole API up to the handler, which is replaced: what is asked is who gets there. Calls are
made to the ASGI application itself, as 40,000 of them by way of an HTTP client would take minutes.
"""

import csv
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from bastide.api import branches
from bastide.api.routing import Route
from bastide.model.access import User
from bastide.model.guest import Guest
from bastide.model.types import split_list
from bastide.operations import pools
from framework.api import Api

pytestmark = pytest.mark.anyio

NODE, STORAGE = "pve", "local"
"""What `node1` and `store1` of the table are called here."""

VALUES = {
    "node": NODE, "storage": STORAGE, "newid": "999", "poolid": "pool1", "pool": "pool1", "zone": "z1", "vnet": "v1",
    "id": "id1", "fabric": "f1", "fabric_id": "f1", "node_id": NODE, "realm": "pve", "userid": "target@pve",
    "groups": "g1", "path": "/vms/100", "controller": "c1", "ipam": "i1", "dns": "d1", "full": "1",
}  # fmt: skip
_PLACES = {"/storage/store1": f"/storage/{STORAGE}", "/nodes/node1": f"/nodes/{NODE}"}
_BUILT_AT_LEAST = 241


async def _reach(_call: Any, _parameters: Any) -> None:
    """In place of every handler."""


@dataclass(frozen=True, slots=True)
class Caller:
    """The headers by which somebody is known; none for a stranger."""

    read: tuple[tuple[bytes, bytes], ...] = ()
    write: tuple[tuple[bytes, bytes], ...] = ()


def _by_ticket(ticket: str, csrf: str) -> Caller:
    cookie = (b"authorization", f"PVEAuthCookie={quote(ticket, safe='')}".encode())
    return Caller((cookie,), (cookie, (b"csrfpreventiontoken", csrf.encode())))


def _by_token(text: str) -> Caller:
    headers = ((b"authorization", f"PVEAPIToken={text}".encode()),)
    return Caller(headers, headers)


async def _cast(api: Api, folder: Path) -> dict[str, Caller]:
    """The people and tokens of `user.cfg`: people come with tickets, as some methods refuse tokens."""
    access, callers = api.services.access, {"anon": Caller()}
    lines = [line.split(":") for line in (folder / "authz/user.cfg").read_text().splitlines() if line]
    groups = {userid: parts[0] for kind, *parts in lines if kind == "group" for userid in split_list(parts[1])}
    for kind, *parts in sorted(
        lines, key=lambda line: ["group", "role", "pool", "user", "token", "acl"].index(line[0])
    ):
        match kind:
            case "group":
                await access.groups.create(parts[0])
            case "role":
                await access.roles.create(parts[0], split_list(parts[1]))
            case "pool":
                await pools.create_pool(api.services.rooms, parts[0], None)
                vmids = [int(vmid) for vmid in split_list(parts[2])]
                await pools.update_pool(api.services.rooms, parts[0], guests=vmids, storages=[STORAGE])
            case "user":
                if parts[0] != "root@pam":
                    await access.users.create(User(userid=parts[0], groups=groups.get(parts[0])))
                callers[parts[0]] = _by_ticket(*await access.issue_ticket(parts[0]))
            case "token":
                userid, _, name = parts[0].partition("!")
                _, secret = await access.tokens.create(userid, name, privsep=parts[2] == "1")
                callers[parts[0]] = _by_token(f"{parts[0]}={secret}")
            case "acl":
                who = {"tokens" if "!" in parts[2] else "users": [parts[2]]}
                path = _PLACES.get(parts[1], parts[1])
                await access.grants.set(path, [parts[3]], propagate=parts[0] == "1", **who)
    return callers


@dataclass(frozen=True, slots=True)
class Question:
    """A method with the values that it is asked with, as the application gets it."""

    route: Route
    values: Mapping[str, str]

    def scope(self, caller: Caller) -> dict[str, Any]:
        """The ASGI scope of the call."""
        path = re.sub(r"\{(\w+)\}", lambda found: self.values.get(found[1], "x"), f"/api2/json{self.route.path}")
        scope = {
            "type": "websocket" if self.route.websocket else "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": self.route.method,
            "scheme": "wss" if self.route.websocket else "https",
            "path": path,
            "raw_path": path.encode(),
            "query_string": urlencode(self._known()).encode(),
            "headers": caller.read if self.route.method == "GET" else caller.write,
            "client": ("192.0.2.1", 1),
            "server": ("pve", 8006),
        }
        return {**scope, "extensions": {"websocket.http.response": {}}} if self.route.websocket else scope

    def _known(self) -> dict[str, str]:
        named = re.findall(r"\{(\w+)\}", self.route.path)
        fields = {info.alias or name for name, info in self.route.parameters.model_fields.items()}
        return {key: value for key, value in self.values.items() if key in fields and key not in named}

    async def answer(self, app: Any, caller: Caller) -> int:
        """The status that the caller gets; 200 for a WebSocket whose handler was reached."""
        status: list[int] = []
        kind = "websocket.connect" if self.route.websocket else "http.request"

        async def receive() -> dict[str, Any]:
            return {"type": kind, "body": b"", "more_body": False}

        async def send(message: dict[str, Any]) -> None:
            if "status" in message:
                status.append(message["status"])

        await app(self.scope(caller), receive, send)
        return status[0] if status else 200


@pytest.fixture(autouse=True)
def declared_answers() -> None:
    """Handlers that are replaced answer nothing, which is not what their routes declare."""


@pytest.fixture
async def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An API with the guests 100 and 101 whose methods of the table do nothing."""
    stubs = [replace(route, handler=_reach) for route in branches.routes()]
    monkeypatch.setattr(branches, "routes", lambda: stubs)
    api = await Api.make(tmp_path)
    for vmid in (100, 101):  # a VM's methods then find that there is none, once the permission is decided
        await api.services.rooms.guests.create(Guest(vmid, "lxc", NODE, {}))
    yield api
    await api.services.rooms.tasks.shutdown()


def _rows(reference: Path) -> Iterator[tuple[Route, dict[str, str]]]:
    """The rows of the methods that are built."""
    built = {(route.method, route.path): route for route in branches.routes()}
    with (reference / "authz/decisions.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            if route := built.get((row["method"], row["path"])):
                yield route, row


@pytest.mark.timeout(300)
async def test_each_method_lets_in_whom_the_table_says(
    stage: Api, reference: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Without the declared check, the refusal of tokens or the login of any one route this fails."""
    callers = await _cast(stage, reference)
    wrong, rows, seen = [], 0, 0
    for route, row in _rows(reference):
        question = Question(route, {**VALUES, "vmid": row["vmid"]})
        rows += 1
        for who, decision in list(row.items())[3:]:
            status = await question.answer(stage.app, callers[who])
            seen += 1
            if (status == (401 if who == "anon" else 403)) != (decision == "0"):
                wrong.append((route.method, route.path, row["vmid"], who, f"expected {decision}", status))
    assert wrong == []
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == [], "not one bug's 500"
    assert set(callers) == set(list(row)[3:]), "everybody in the table has a way in"
    assert rows >= 2 * _BUILT_AT_LEAST
    assert seen == rows * len(callers)


OPEN = {
    "GET /bastide/session",
    "POST /bastide/session",
    "DELETE /bastide/session",
    "POST /bastide/session/openid",
}
"""What a stranger may call of what Proxmox VE does not have."""


async def test_a_stranger_calls_nothing_of_ours_but_the_login(stage: Api, reference: Path) -> None:
    """The table does not know these methods. Without the refusal of strangers in the dispatcher this fails."""
    with (reference / "authz/decisions.csv").open(newline="") as file:
        known = {(row["method"], row["path"]) for row in csv.DictReader(file)}
    ours = [route for route in branches.routes() if (route.method, route.path) not in known]
    assert len(ours) >= 59
    let_in = set()
    for route in ours:
        status = await Question(route, {**VALUES, "vmid": "100"}).answer(stage.app, Caller())
        if status != 401:
            let_in.add(f"{route.method} {route.path}")
    assert let_in == OPEN
