"""The API against the published reference: which methods, which parameters, which permissions."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bastide.api.branches import routes
from bastide.api.openapi import document, operation_id

BRANCHES = (
    "/version", "/access", "/nodes", "/cluster", "/storage", "/pools",
)  # fmt: skip

NOT_YET = (
    # branches with issues of their own
    r"/nodes/{node}/(firewall|ceph|sdn|apt|services|certificates|replication)",
    r"/cluster/(ha|sdn|firewall|ceph|acme|config|jobs/realm-sync|mapping|metrics|notifications|replication|log|bulk-action|qemu)",
    r"/access/openid",
    r"/nodes/{node}/lxc/{vmid}/(firewall|migrate|remote_migrate|mtunnel|mtunnelwebsocket|spiceproxy)",
    r"/nodes/{node}/qemu/{vmid}/(firewall|migrate|remote_migrate|mtunnel|mtunnelwebsocket|backup)",
    # methods of the node that act on the machine or other nodes
    r"/nodes/{node}/(config|dns|execute|hosts|journal|migrateall|netstat|query-oci-repo-tags|report|spiceshell"
    r"|startall|stopall|subscription|suspendall|syslog|termproxy|vncshell|vncwebsocket|wakeonlan)",
)
NOT_YET_METHODS = {
    # read only in the first release
    ("POST", "/access/domains"), ("PUT", "/access/domains/{realm}"), ("DELETE", "/access/domains/{realm}"),
    ("POST", "/access/domains/{realm}/sync"),
    ("POST", "/nodes/{node}/network"), ("PUT", "/nodes/{node}/network"), ("DELETE", "/nodes/{node}/network"),
    ("PUT", "/nodes/{node}/network/{iface}"), ("DELETE", "/nodes/{node}/network/{iface}"),
}  # fmt: skip


@pytest.fixture(scope="module")
def methods(reference: Path) -> dict[tuple[str, str], dict[str, Any]]:
    entries = json.loads((reference / "pve-api-9.1.json").read_text())
    return {(entry["method"], entry["path"]): entry for entry in entries}


def built() -> dict[tuple[str, str], Any]:
    return {
        (route.method, route.path): route for route in routes() if not route.path.startswith(("/bastide", "/architect"))
    }


def test_every_method_of_the_branches_is_there(methods: dict[tuple[str, str], Any]) -> None:
    wanted = {
        (method, path)
        for method, path in methods
        if path.startswith(BRANCHES)
        and (method, path) not in NOT_YET_METHODS
        and not any(re.match(rf"{pattern}(/|$)", path) for pattern in NOT_YET)
    }
    have = built().keys()
    assert wanted - have == set()
    assert have - methods.keys() == set(), "a method that the reference does not know"


def test_permissions_and_tokens_are_the_references(methods: dict[tuple[str, str], Any]) -> None:
    differing = {}
    for key, route in built().items():
        entry = methods[key]
        declared = {k: v for k, v in (entry.get("permissions") or {}).items() if k in ("check", "user")} or None
        if route.permissions() != declared:
            differing[key] = (route.permissions(), declared)
        assert route.allow_token == bool(entry["allowtoken"]), key
    assert differing == {}


def test_every_parameter_is_there_and_as_strict(reference: Path, tmp_path: Path) -> None:
    file = tmp_path / "openapi.json"
    published = document(routes(), "0")
    # The reference has no values for `compression`, on which the tool stumbles.
    bodies = published["paths"]["/api2/json/nodes/{node}/storage/{storage}/download-url"]["post"]["requestBody"]
    assert [body["schema"]["properties"].pop("compression", None) for body in bodies["content"].values()] != [None]
    file.write_text(json.dumps(published))
    tool = reference.parent / "tools" / "api_coverage.py"
    if not tool.exists():
        pytest.fail(f"{tool} is not there")
    done = subprocess.run([sys.executable, tool, file, "--params"], capture_output=True, text=True, check=True)
    *problems, summary = done.stdout.strip().splitlines()
    assert problems == ["missing   POST /nodes/{node}/storage/{storage}/download-url compression"], summary


def test_operation_ids_are_distinct() -> None:
    ids = [operation_id(route) for route in routes()]
    assert len(set(ids)) == len(ids)
