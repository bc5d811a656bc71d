"""Who may call what of storages, backups, disks, scans, snapshots, clones, moves and sizes: the reference's decisions.

Each call goes through the whole API up to the handler, which is replaced: what is asked is who gets there.
"""

import csv
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from bastide.api import branches
from bastide.model.guest import Guest
from framework.api import Api, call

pytestmark = pytest.mark.anyio

_PATHS = re.compile(
    r"/storage|/nodes/\{node\}/(storage|disks|scan|aplinfo|query-url-metadata)"
    r"|/cluster/backup|/cluster/jobs/schedule-analyze|/nodes/\{node\}/(vzdump|qemu$|lxc$)"
    r"|/nodes/\{node\}/(qemu|lxc)/\{vmid\}/(snapshot|clone|template|feature|resize|move_disk|move_volume|unlink)"
)
_PEOPLE = re.compile(
    r"anon|none@|s-|tok@|root@|p-(Datastore|Sys_(Audit|Modify|AccessNetwork)"
    r"|VM_(Allocate|Audit|Clone|Config_Disk|PowerMgmt|Snapshot))"
)
"""Roles of many privileges are left out: what they let in, one of their privileges does."""


async def _reach(_call: Any, _parameters: Any) -> None:
    """In place of every handler."""


async def _cast(api: Api, folder: Path) -> dict[str, httpx.AsyncClient]:
    """The people of `user.cfg`, each with a way in; `node1` is this node, `store1` is `local`."""
    clients: dict[str, httpx.AsyncClient] = {}
    lines = [line.split(":") for line in (folder / "authz/user.cfg").read_text().splitlines() if line]
    for kind, *parts in lines:
        match kind:
            case "user" if parts[0] != "root@pam":
                await api.data("POST", "/access/users", userid=parts[0])
            case "token":
                userid, _, name = parts[0].partition("!")
                made = await api.data("POST", f"/access/users/{userid}/token/{name}", privsep=int(parts[2]))
                clients[parts[0]] = _with(api, made)
            case "pool":
                await api.data("POST", "/pools", poolid=parts[0])
                await api.data("PUT", f"/pools/{parts[0]}", vms=parts[2], storage="local")
            case "role":
                await api.data("POST", "/access/roles", roleid=parts[0], privs=parts[1])
            case "acl":
                path = {"/storage/store1": "/storage/local", "/nodes/node1": "/nodes/pve"}.get(parts[1], parts[1])
                who = {"tokens" if "!" in parts[2] else "users": parts[2]}
                await api.data("PUT", "/access/acl", path=path, roles=parts[3], propagate=int(parts[0]), **who)
    for kind, *parts in lines:
        if kind == "user" and parts[0] != "root@pam":
            made = await api.data("POST", f"/access/users/{parts[0]}/token/self", privsep=0)
            clients[parts[0]] = _with(api, made)
    return {**clients, "anon": api.client, "root@pam": api.root}


def _with(api: Api, token: Mapping[str, str]) -> httpx.AsyncClient:
    client = httpx.AsyncClient(transport=httpx.ASGITransport(api.app), base_url=api.client.base_url)
    client.headers["Authorization"] = f"PVEAPIToken={token['full-tokenid']}={token['value']}"
    return client


@pytest.fixture
async def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An API with the guests 100 and 101 whose other methods do nothing."""
    declared = branches.routes()
    stubs = [replace(route, handler=_reach) if _PATHS.match(route.path) else route for route in declared]
    monkeypatch.setattr(branches, "routes", lambda: stubs)
    api = await Api.make(tmp_path)
    for vmid in (100, 101):
        await api.services.rooms.guests.create(Guest(vmid, "lxc", "pve", {}))
    yield api
    await api.services.rooms.tasks.shutdown()


def _rows(reference: Path) -> Iterator[dict[str, str]]:
    with (reference / "authz/decisions.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            # What names no guest is in the table twice.
            if _PATHS.match(row["path"]) and ("{vmid}" in row["path"] or row["vmid"] == "100"):
                yield row


def _path(row: Mapping[str, str]) -> str:
    values = {"node": "pve", "storage": "local", "vmid": row["vmid"]}
    return re.sub(r"\{(\w+)\}", lambda found: values.get(found[1], "x"), row["path"])


async def test_each_method_lets_in_whom_the_table_says(stage: Api, reference: Path) -> None:
    clients = await _cast(stage, reference)
    built = {(route.method, route.path) for route in branches.routes()}
    wrong, seen = [], 0
    for row in _rows(reference):
        assert (row["method"], row["path"]) in built, "a method that is not there"
        values = {"newid": 999, "pool": "pool1", "storage": "local", "vmid": row["vmid"]}
        people = {who: decision for who, decision in list(row.items())[3:] if _PEOPLE.match(who)}
        if row["vmid"] == "101":  # another guest is the same to whoever has a role everywhere
            people = {who: decision for who, decision in people.items() if who.startswith("s-")}
        for who, decision in people.items():
            answer = await call(clients[who], row["method"], _path(row), **values)
            seen += 1
            refused = answer.status_code == (401 if who == "anon" else 403)
            if refused != (decision == "0"):
                wrong.append((row["method"], _path(row), who, f"expected {decision}", answer.status_code))
    assert wrong == []
    assert seen > 3000
