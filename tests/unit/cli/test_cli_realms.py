"""`bastide realm`: what is asked of the API, and what is printed."""

import pytest

UPID = "UPID:pve1:00000001:00000002:65000000:auth-realm-sync:corp:root@pam:"


@pytest.fixture(autouse=True)
def answers(daemon):
    rows = [
        {"realm": "corp", "type": "ldap", "comment": "The office", "default": 1},
        {"realm": "pam", "type": "pam", "comment": "Linux PAM standard authentication"},
    ]
    daemon.on("GET", "/access/domains", rows)
    daemon.on("GET", "/access/domains/corp", {"type": "ldap", "server1": "d.test", "digest": "0" * 40})
    daemon.on("POST", "/access/domains", None)
    daemon.on("PUT", "/access/domains/corp", None)
    daemon.on("DELETE", "/access/domains/corp", None)
    daemon.task("POST", "/access/domains/corp/sync", log=("add user 'ada@corp'", "done"))


@pytest.mark.parametrize(
    "command",
    ["list", "show corp", "add ldap corp server1=d.test base_dn=dc=test user_attr=uid", "set corp comment=x",
     "set corp --delete comment", "remove corp", "sync corp --scope both"],
)  # fmt: skip
def test_json_is_all_that_is_printed(run, command):
    ended = run("realm", *command.split(), "--json")
    assert (ended.code, ended.err) == (0, "")
    assert ended.json is not None


def test_realms_are_listed_and_shown(run):
    listed = run("realm", "list").out
    assert "The office" in listed
    assert "yes" in listed
    shown = run("realm", "show", "corp").out
    assert "d.test" in shown
    assert "0000" not in shown


def test_a_secret_is_read_from_a_file_alone(run, daemon):
    options = ["server1=d.test", "base_dn=dc=test,dc=x", "user_attr=uid", "filter=(&(a=b)(c=d))"]
    ended = run("realm", "add", "ldap", "corp", *options, "--password-file", "-", text="bind-secret\n")
    assert ended.code == 0, ended.err
    asked = daemon.posted("POST", "/access/domains")
    assert (asked["realm"], asked["type"], asked["password"]) == ("corp", "ldap", "bind-secret")
    assert (asked["base_dn"], asked["filter"], asked["check-connection"]) == ("dc=test,dc=x", "(&(a=b)(c=d))", "1")
    for key in ("password", "client-key"):
        ended = run("realm", "set", "corp", f"{key}=on-the-line")
        assert ended.code != 0
        assert f"--{key}-file" in ended.err


def test_a_provider_is_added_without_a_look_at_it(run, daemon):
    ended = run("realm", "add", "openid", "sso", "issuer-url=https://id.test", "client-id=b", "--client-key-file", "-",
                text="key\n")  # fmt: skip
    assert ended.code == 0, ended.err
    asked = daemon.posted("POST", "/access/domains")
    assert asked["client-key"] == "key"
    assert "check-connection" not in asked


def test_a_sync_shows_its_log(run, daemon):
    ended = run("realm", "sync", "corp", "--scope", "both", "--remove-vanished", "acl;entry", "--dry-run")
    assert ended.code == 0, ended.err
    assert "add user 'ada@corp'" in ended.out
    asked = daemon.posted("POST", "/access/domains/corp/sync")
    assert asked == {"scope": "both", "remove-vanished": "acl;entry", "dry-run": "1"}


def test_what_is_no_type_is_refused(run):
    assert run("realm", "add", "pam", "x").code != 0
    assert run("realm", "set", "corp").code != 0
