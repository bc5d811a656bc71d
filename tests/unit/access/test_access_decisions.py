"""Every declared permission of the reference, for every person of its decision table."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bastide.access.authority import Authority
from bastide.access.checks import permitted
from bastide.access.roles import BUILTIN_ROLES
from bastide.model.access import Grant, Identity, Token, User

PARAMETERS = {
    "node": "node1",
    "storage": "store1",
    "newid": "999",
    "poolid": "pool1",
    "pool": "pool1",
    "zone": "z1",
    "vnet": "v1",
    "id": "id1",
    "fabric": "f1",
    "fabric_id": "f1",
    "node_id": "node1",
    "realm": "pve",
    "userid": "target@pve",
    "groups": "g1",
    "path": "/vms/100",
    "controller": "c1",
    "ipam": "i1",
    "dns": "d1",
    "full": "1",
}


def read_authority(path: Path) -> Authority:
    """Proxmox VE's `user.cfg` as an Authority."""
    users: dict[str, User] = {}
    tokens: dict[str, Token] = {}
    groups: dict[str, frozenset[str]] = {}
    roles = dict(BUILTIN_ROLES)
    grants: list[Grant] = []
    pools: dict[str, tuple[str, ...]] = {}
    for line in filter(None, path.read_text().splitlines()):
        kind, *parts = line.split(":")
        match kind:
            case "user":
                users[parts[0]] = User(userid=parts[0], enable=parts[1] == "1")
            case "token":
                userid, _, name = parts[0].partition("!")
                tokens[parts[0]] = Token(userid=userid, tokenid=name, privsep=parts[2] == "1", secret="x")
            case "group":
                groups[parts[0]] = frozenset(parts[1].split(","))
            case "role":
                roles[parts[0]] = frozenset(parts[1].split(","))
            case "pool":
                members = [f"/vms/{vmid}" for vmid in parts[2].split(",")]
                members += [f"/storage/{name}" for name in parts[3].split(",")]
                pools |= dict.fromkeys(members, (f"/pool/{parts[0]}",))
            case "acl":
                kind = "token" if "!" in parts[2] else "user"
                grants.append(
                    Grant(path=parts[1], subject=parts[2], kind=kind, role=parts[3], propagate=parts[0] == "1")
                )
    return Authority(users, tokens, groups, roles, grants, pools)


def let_in(authority: Authority, who: str, method: dict[str, Any], parameters: dict[str, str]) -> bool:
    """The decision as the API makes it: the world, the login, then the declared check."""
    declared = method.get("permissions") or {}
    userid, _, token = who.partition("!")
    identity = Identity(userid, token or None)
    if identity.token and not method.get("allowtoken", 1):
        return False
    if declared.get("user") == "world":
        return True
    if who == "anon":
        return False
    if declared.get("user") == "all":
        return True
    return permitted(authority, identity, declared.get("check"), parameters)


def rows(reference: Path) -> Iterator[tuple[dict[str, Any], dict[str, str]]]:
    methods = {(m["method"], m["path"]): m for m in json.loads((reference / "pve-api-9.1.json").read_text())}
    with (reference / "authz" / "decisions.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            yield methods[row["method"], row["path"]], row


def test_every_decision_is_the_references(reference: Path) -> None:
    authority = read_authority(reference / "authz" / "user.cfg")
    wrong, seen = [], 0
    for method, row in rows(reference):
        for who, decision in list(row.items())[3:]:
            seen += 1
            if let_in(authority, who, method, {**PARAMETERS, "vmid": row["vmid"]}) != (decision == "1"):
                wrong.append((row["method"], row["path"], row["vmid"], who, f"expected {decision}"))
    assert wrong == []
    assert seen > 90_000
