"""`acl`, `role`, `group` and `user permissions`: what they ask for and what they print."""

import pytest

ACL = [
    {"path": "/vms/100", "ugid": "ada@pve", "type": "user", "roleid": "PVEVMUser", "propagate": 1},
    {"path": "/pool/team", "ugid": "staff", "type": "group", "roleid": "PVEAuditor", "propagate": 0},
]


def test_the_list_tells_who_has_what_where(run, daemon):
    daemon.on("GET", "/access/acl", ACL)
    told = run("acl", "list")
    assert [line.split() for line in told.out.splitlines() if "team" in line] == [
        ["/pool/team", "staff", "group", "PVEAuditor", "no"]
    ]
    assert run("acl", "list", "/vms/100", "--json").json == ACL[:1]
    daemon.on("GET", "/access/acl", [])
    assert "nobody but root@pam" in run("acl", "list").err


def test_users_tokens_and_groups_are_told_apart(run, daemon):
    daemon.on("PUT", "/access/acl", None)
    assert run("acl", "set", "/vms/100", "ada@pve", "bob@pam", "ada@pve!ci", "@staff", "--role", "PVEVMUser").code == 0
    assert daemon.posted("PUT", "/access/acl") == {
        "path": "/vms/100", "users": "ada@pve,bob@pam", "tokens": "ada@pve!ci", "groups": "staff",
        "roles": "PVEVMUser", "propagate": "1",
    }  # fmt: skip
    assert run("acl", "set", "/", "ada@pve", "--role", "NoAccess", "--no-propagate").code == 0
    assert daemon.posted("PUT", "/access/acl")["propagate"] == "0"
    assert run("acl", "remove", "/vms/100", "ada@pve", "--role", "PVEVMUser").code == 0
    assert daemon.posted("PUT", "/access/acl") == {
        "path": "/vms/100", "users": "ada@pve", "roles": "PVEVMUser", "delete": "1",
    }  # fmt: skip
    assert run("acl", "set", "/vms/100", "ada@pve").code == 2, "a role is needed"


def test_roles(run, daemon):
    daemon.on("GET", "/access/roles", [{"roleid": "Mine", "privs": "VM.Audit,VM.Console", "special": 0}])
    for method, path in (("POST", "/access/roles"), ("PUT", "/access/roles/Mine"), ("DELETE", "/access/roles/Mine")):
        daemon.on(method, path, None)
    assert "VM.Audit VM.Console" in run("role", "ls").out
    assert run("role", "create", "Mine", "VM.Audit", "VM.Console").code == 0
    assert daemon.posted("POST", "/access/roles") == {"roleid": "Mine", "privs": "VM.Audit,VM.Console"}
    assert run("role", "set", "Mine", "VM.Backup", "--append").code == 0
    assert daemon.posted("PUT", "/access/roles/Mine") == {"privs": "VM.Backup", "append": "1"}
    assert run("role", "set", "Mine").code == 0
    assert daemon.posted("PUT", "/access/roles/Mine") == {"privs": ""}, "a role may have no privilege"
    assert run("role", "rm", "Mine").code == 0
    assert daemon.made("DELETE", "/access/roles/Mine")


def test_groups(run, daemon):
    daemon.on("GET", "/access/groups", [{"groupid": "staff", "users": "ada@pve,bob@pve", "comment": "all"}])
    daemon.on("GET", "/access/users/ada@pve", {"groups": ["staff", "night"]})
    for method, path in (("POST", "/access/groups"), ("PUT", "/access/groups/staff"),
                         ("DELETE", "/access/groups/staff"), ("PUT", "/access/users/ada@pve")):  # fmt: skip
        daemon.on(method, path, None)
    assert "ada@pve bob@pve" in run("group", "ls").out
    assert run("group", "create", "staff", "--comment", "all").code == 0
    assert daemon.posted("POST", "/access/groups") == {"groupid": "staff", "comment": "all"}
    assert run("group", "set", "staff", "--comment", "new").code == 0
    assert daemon.posted("PUT", "/access/groups/staff") == {"comment": "new"}
    assert run("group", "add", "staff", "ada@pve").code == 0
    assert daemon.posted("PUT", "/access/users/ada@pve") == {"groups": "staff", "append": "1"}
    assert run("group", "drop", "staff", "ada@pve").code == 0
    assert daemon.posted("PUT", "/access/users/ada@pve") == {"groups": "night"}
    assert run("group", "rm", "staff").code == 0
    assert daemon.made("DELETE", "/access/groups/staff")


@pytest.mark.parametrize("who", ["ada@pve", "ada@pve!ci"])
def test_what_somebody_may_do(run, daemon, who):
    found = {"/vms": {"VM.Audit": 1, "VM.Console": 0}, "/sdn": {}}
    daemon.on("GET", "/access/permissions", found)
    told = run("user", "permissions", who, "--path", "/vms")
    assert daemon.posted("GET", "/access/permissions") == {"userid": who, "path": "/vms"}
    assert [line.split() for line in told.out.splitlines() if line.startswith("/")] == [
        ["/vms", "VM.Audit", "VM.Console*"]
    ]
    assert "not below" in told.err
    assert run("user", "permissions", "--json").json == found
    daemon.on("GET", "/access/permissions", {})
    assert "nothing" in run("user", "permissions").err


def test_a_refusal_ends_with_its_message(run, daemon, refusal):
    daemon.on("PUT", "/access/acl", refusal(403, "Permission check failed (/vms/100, Permissions.Modify)"))
    told = run("acl", "set", "/vms/100", "ada@pve", "--role", "PVEVMUser")
    assert told.code != 0
    assert "Permissions.Modify" in told.err
