"""`bastide user tfa`: what is asked of the API, and what is printed."""

from urllib.parse import parse_qs, urlsplit

import pytest

from bastide.access.totp import TotpSecret
from bastide.cli.factors import new_uri

ENTRY = {"id": "e1", "type": "totp", "description": "phone", "created": 1_700_000_000, "enable": 1}
URI = "otpauth://totp/x?secret=" + "A" * 32


@pytest.fixture(autouse=True)
def answers(daemon):
    rows = [
        {"userid": "a@pve", "entries": [ENTRY], "totp-locked": 1},
        {"userid": "b@pve", "entries": [{**ENTRY, "type": "recovery", "id": "recovery"}], "tfa-locked-until": 2**31},
    ]
    daemon.on("GET", "/access/tfa", rows)
    daemon.on("GET", "/access/tfa/a@pve", [ENTRY])
    daemon.on("GET", "/access/tfa/c@pve", [])
    daemon.on("POST", "/access/tfa/a@pve", lambda p: {"id": "e2", "recovery": ["1-2", "3-4"]})
    daemon.on("DELETE", "/access/tfa/a@pve/e1", None)
    daemon.on("PUT", "/access/users/a@pve/unlock-tfa", 1)
    daemon.on("PUT", "/access/users/b@pve/unlock-tfa", 0)


COMMANDS = [
    "list", "list a@pve", "list c@pve", "add totp a@pve --stdin", "add recovery a@pve", "remove a@pve e1",
    "unlock a@pve",
]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_json_is_all_that_is_printed(run, command):
    ended = run("user", "tfa", *command.split(), "--json", text=f"{URI}\n123456\n")
    assert (ended.code, ended.err) == (0, "")
    assert ended.json is not None


def test_locks_are_told(run):
    everybody = run("user", "tfa", "list").out
    assert "locked until 20" in everybody
    assert "b@pve" in everybody
    own = run("user", "tfa", "list", "a@pve").out
    assert " locked " in own
    assert "b@pve" not in own
    assert "no second factors" in run("user", "tfa", "list", "c@pve").err
    assert "does not exist" in run("user", "tfa", "list", "nobody@pve").err
    assert "nothing of b@pve was locked" in run("user", "tfa", "unlock", "b@pve").err


def test_a_secret_is_read_from_standard_input_alone(run, daemon):
    assert run("user", "tfa", "add", "totp", "a@pve", "--stdin", text=f"{URI}\n 123456 \n").code == 0
    asked = daemon.posted("POST", "/access/tfa/a@pve")
    assert (asked["type"], asked["totp"], asked["value"]) == ("totp", URI, "123456")
    without = run("user", "tfa", "add", "totp", "a@pve", text="")
    assert without.code != 0
    assert "--stdin" in without.err


def test_recovery_codes_are_printed(run):
    ended = run("user", "tfa", "add", "recovery", "a@pve")
    assert "1-2" in ended.out
    assert "not shown again" in ended.err


def test_a_new_source_of_codes_is_one_that_the_host_takes():
    uri = new_uri("a b@pve", "my node")
    assert parse_qs(urlsplit(uri).query)["issuer"] == ["Bastide - my node"]
    assert TotpSecret.from_uri(uri) != TotpSecret.from_uri(new_uri("a b@pve", "my node"))
    assert len(TotpSecret.from_uri(uri).secret) == 32
