"""Whatever a method calls a secret is marked as one, so that the audit log hides it."""

import re
from collections.abc import Iterator

import pytest

from bastide.api.branches import routes
from bastide.api.routing import Route
from bastide.model.audit import marked

_LIKE_SECRETS = re.compile(
    r"pass|secret|token|^otp|ticket|keyring|cred|cookie|challenge|(^|[-_])(key|keys|env)$|input-data|user_data|command$"
)

_NONE = {
    "tokenid": "the token's name",
    "tokens": "tokens' names",
    "generate-password": "a switch",
    "/bastide/records/record key": "a record's name",
    "/nodes/{node}/status command": "reboot or shutdown",
    "/nodes/{node}/qemu/{vmid}/agent command": "one of the agent's commands without arguments",
}


def _parameters() -> Iterator[tuple[Route, str, object]]:
    for route in routes():
        for kind in filter(None, (route.parameters, route.body)):
            for name, mark in marked(kind).items():
                yield route, name, mark


def test_every_parameter_that_looks_like_a_secret_is_marked() -> None:
    """Without the mark on, say, `cipassword` this fails."""
    bare = {
        f"{route.method} {route.path} {name}"
        for route, name, mark in _parameters()
        if _LIKE_SECRETS.search(name) and mark is None and name not in _NONE and f"{route.path} {name}" not in _NONE
    }
    assert not bare, "mark these parameters with Secret() (or Bulk()) of model/audit.py, or say above why not"


def test_the_pattern_finds_secrets_at_all() -> None:
    found = {name for _, name, mark in _parameters() if mark is not None}
    assert {"password", "cipassword", "keyring", "vncticket", "content", "input-data", "command"} <= found


@pytest.mark.parametrize("name", sorted(_NONE))
def test_every_exception_is_still_one(name: str) -> None:
    known = {name for _, name, _ in _parameters()} | {f"{route.path} {name}" for route, name, _ in _parameters()}
    assert name in known
