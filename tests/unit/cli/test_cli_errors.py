"""Every error ends with its documented exit code and says what to do."""

import re

import pytest

from bastide.base import errors as tree
from bastide.cli import errors


def test_every_class_of_the_tree_has_an_exit_code_of_the_documented_table():
    documented = {int(code) for code in re.findall(r"^\| (\d+) \|", errors.__doc__ or "", re.MULTILINE)}

    def classes(kind):
        return [kind, *(found for child in kind.__subclasses__() for found in classes(child))]

    for kind in classes(tree.BastideError):
        error = kind.__new__(kind)
        assert errors.exit_code(error) in documented


def test_where_no_daemon_answers(run, root):
    ended = run("ls")
    assert ended.code == 5
    assert ended.err == f"error: no daemon answers at {root}/run/api.sock: No such file or directory\n" + (
        "       start it with: bastide up\n"
    )
    assert f"bastide up --root {root}" in run("ls", "--root", str(root)).err


@pytest.mark.parametrize(
    ("status", "message", "code"),
    [
        (403, "Permission check failed (/, Sys.Audit)", 4),
        (401, "", 4),
        (500, "guest 'web' does not exist", 3),
        (500, "internal error 1234", 1),
        (501, "Method 'GET /nodes' not implemented", 7),
    ],
)
def test_refusals_of_the_api(run, daemon, refusal, status, message, code):
    daemon.on("GET", "/nodes", refusal(status, message))
    ended = run("api", "get", "/nodes")
    assert ended.code == code
    assert message in ended.err
    assert ended.out == ""


def test_bad_parameters_are_named_one_a_line(run, daemon, refusal):
    daemon.on("POST", "/x", refusal(400, "Parameter verification failed.", {"a": "too long", "b": "unknown\x1b[31m"}))
    ended = run("api", "create", "/x", "a=1")
    assert ended.code == 2
    assert ended.err == "error: a: too long\n       b: unknown?[31m\n"


def test_the_remote_daemon_needs_a_token(run, monkeypatch):
    monkeypatch.setenv("BASTIDE_API", "https://192.0.2.1:8006")
    ended = run("ls")
    assert ended.code == 2
    assert "BASTIDE_TOKEN" in ended.err


def test_the_host_commands_refuse_a_remote_daemon(run, monkeypatch):
    monkeypatch.setenv("BASTIDE_API", "https://192.0.2.1:8006")
    assert run("up").code == 7


def test_raw_parameters_repeat_into_lists(run, daemon):
    daemon.on("POST", "/nodes/pve1/x", lambda params: params)
    ended = run("api", "create", "nodes/pve1/x", "command=a", "command=b", "k=v=w")
    assert ended.json == {"command": ["a", "b"], "k": "v=w"}


def test_token_secret_is_printed_once_as_json(run, daemon):
    made = {"full-tokenid": "root@pam!ci", "value": "s3cret", "info": {"privsep": "0"}}
    daemon.on("POST", "/access/users/root@pam/token/ci", made)
    assert run("token", "create", "root@pam", "ci", "--no-privsep", "--json").json == made
    assert daemon.posted("POST", "/access/users/root@pam/token/ci") == {"privsep": "0"}
    assert "s3cret" in run("token", "create", "root@pam", "ci").out


def test_a_password_comes_from_standard_input(run, daemon):
    daemon.on("POST", "/access/users", None)
    assert run("user", "create", "joe@pve").code == 2
    assert run("user", "create", "joe@pve", "--password-stdin", text="geheim\nx").code == 0
    assert daemon.posted("POST", "/access/users") == {"userid": "joe@pve", "password": "geheim"}


def test_task_log_follows_to_a_failure(run, daemon):
    upid = daemon.task("POST", "/x", end="tar: unexpected end of file", log=("one", "two"))
    ended = run("task", "log", "-f", upid)
    assert (ended.code, ended.out) == (1, "one\ntwo\n")
    assert "unexpected end" in ended.err
    assert run("task", "log", "not-a-upid").code == 2


@pytest.mark.parametrize(
    ("message", "code", "advice"),
    [
        ("storage 'nas' is disabled", 6, "bastide storage set nas --delete disable"),
        ("storage 'nas' does not exist", 3, "bastide storage ls"),
        ("volume 'nas:1' does not exist", 3, ""),
    ],
)
def test_what_to_do_about_a_storage(run, daemon, refusal, message, code, advice):
    daemon.on("GET", "/x", refusal(500, message))
    ended = run("api", "get", "/x")
    assert ended.code == code
    assert ended.err.count("\n") == (2 if advice else 1)
    assert advice in ended.err
