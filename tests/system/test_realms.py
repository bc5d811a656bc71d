"""Realms against a real directory, Debian's slapd: logging in, syncing, TLS, and servers that are down."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from framework.api import Api, call
from framework.ldap_relay import relay, upn_to_dn
from framework.slapd import ADMIN, GROUPS, PEOPLE, SECRET, Slapd, group, person

pytestmark = [pytest.mark.anyio, pytest.mark.system]

PASSWORD = "a-password-of-ada"


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slapd]:
    people = [
        person("ada", PASSWORD, mail="ada@x.test", givenName="Ada", sAMAccountName="ada"),
        person("bob", "bobs-password", mail="bob@x.test"),
        "dn: ou=other,dc=test\nobjectClass: organizationalUnit\nou: other\n",
        f"dn: uid=twin,{PEOPLE}\nobjectClass: user\nuid: twin\ncn: t\nsn: t\nuserPassword: {PASSWORD}\n",
        f"dn: uid=twin,ou=other,dc=test\nobjectClass: user\nuid: twin\ncn: t\nsn: t\nuserPassword: {PASSWORD}\n",
    ]
    with Slapd.launched(tmp_path_factory.mktemp("slapd") / "d", *people, group("ops", "ada", "bob")) as launched:
        launched.modify(group("dev", "ada"))
        yield launched


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    made = await Api.make(tmp_path)
    yield made
    await made.services.rooms.tasks.shutdown()


def options(directory: Slapd, **more: Any) -> dict[str, Any]:
    return {
        "realm": "corp", "type": "ldap", "server1": "127.0.0.1", "port": directory.port, "base_dn": "dc=test",
        "user_attr": "uid", "bind_dn": ADMIN, "password": SECRET, "group_dn": GROUPS,
        "sync_attributes": "email=mail,firstname=givenName", "check-connection": 1, **more,
    }  # fmt: skip


async def status(api: Api, username: str, password: str) -> int:
    answer = await call(api.client, "POST", "/access/ticket", username=username, password=password)
    return answer.status_code


async def sync(api: Api, **values: Any) -> tuple[str, str]:
    """Sync the realm; returns how it ended, and its log."""
    upid = await api.data("POST", "/access/domains/corp/sync", **values)
    ended = await api.wait(upid)
    lines = await api.data("GET", f"/nodes/pve/tasks/{upid}/log")
    return ended, "\n".join(line["t"] for line in lines)


async def test_users_of_a_directory_log_in_with_its_password(api: Api, directory: Slapd) -> None:
    await api.data("POST", "/access/domains", **options(directory))
    assert await status(api, "ada@corp", PASSWORD) == 401, "who is not a user here must not come in"
    for name in ("ada", "twin"):
        await api.data("POST", "/access/users", userid=f"{name}@corp")
    assert await status(api, "ada@corp", PASSWORD) == 200
    assert await status(api, "ada@corp", "") != 200
    assert await status(api, "ada@corp", "bobs-password") == 401
    assert await status(api, "ADA@corp", PASSWORD) == 401
    assert await status(api, "twin@corp", PASSWORD) == 401, "two entries of a name: nobody knows which is meant"
    await api.data("PUT", "/access/domains/corp", **{"case-sensitive": 0})
    answer = await call(api.client, "POST", "/access/ticket", username="ADA@corp", password=PASSWORD)
    assert answer.json()["data"]["username"] == "ada@corp"
    await api.data("PUT", "/access/users/ada@corp", enable=0)
    assert await status(api, "ada@corp", PASSWORD) == 401


@pytest.mark.parametrize("mode", ["ldaps", "ldap+starttls"])
async def test_tls_believes_the_authority_that_was_named_alone(api: Api, directory: Slapd, mode: str) -> None:
    port = directory.tls_port if mode == "ldaps" else directory.port
    values = options(directory, mode=mode, port=port, verify=1)
    answer = await call(api.root, "POST", "/access/domains", **values)
    assert answer.status_code == 500
    assert "certificate of the directory" in answer.text
    assert len(await api.data("GET", "/access/domains")) == 2
    await api.data("POST", "/access/domains", **values, capath=str(directory.authority))
    await api.data("POST", "/access/users", userid="ada@corp")
    assert await status(api, "ada@corp", PASSWORD) == 200
    await api.data("PUT", "/access/domains/corp", delete="capath")
    assert await status(api, "ada@corp", PASSWORD) == 401
    await api.data("PUT", "/access/domains/corp", verify=0)
    assert await status(api, "ada@corp", PASSWORD) == 200


async def test_the_second_server_is_asked_when_the_first_is_down(api: Api, directory: Slapd) -> None:
    # Nobody listens on 127.0.0.9.
    await api.data("POST", "/access/domains", **options(directory, server1="127.0.0.9", server2="127.0.0.1"))
    await api.data("POST", "/access/users", userid="ada@corp")
    assert await status(api, "ada@corp", PASSWORD) == 200


async def test_a_wrong_bind_password_is_told_when_the_connection_is_checked(api: Api, directory: Slapd) -> None:
    for values, word in (({"password": "wrong"}, "bind_dn"), ({"base_dn": "dc=nobody"}, "no such object")):
        answer = await call(api.root, "POST", "/access/domains", **options(directory, **values))
        assert answer.status_code == 500
        assert word in answer.text
        assert "wrong" not in answer.text
    assert len(await api.data("GET", "/access/domains")) == 2


async def test_a_sync_brings_users_and_groups_and_a_dry_run_says_so_alone(api: Api, directory: Slapd) -> None:
    await api.data("POST", "/access/domains", **options(directory, filter="(!(uid=twin))", user_classes="user"))
    ended, log = await sync(api, scope="both", **{"dry-run": 1})
    assert (ended, "would add user 'ada@corp'" in log) == ("OK", True)
    assert [row["userid"] for row in await api.data("GET", "/access/users")] == ["root@pam"]
    ended, log = await sync(api, scope="both")
    assert ended == "OK", log
    ada = await api.data("GET", "/access/users/ada@corp")
    assert (ada["email"], ada["firstname"], ada["enable"]) == ("ada@x.test", "Ada", 1)
    assert sorted(ada["groups"]) == ["dev-corp", "ops-corp"]
    assert await status(api, "bob@corp", "bobs-password") == 200
    await api.data("PUT", "/access/acl", path="/vms", users="bob@corp", roles="PVEVMUser")
    await api.data("POST", "/access/users", userid="eve@pve")
    await api.data("POST", "/access/users", userid="left@corp")
    await api.data("PUT", "/access/domains/corp", filter="(|(uid=ada)(uid=nobody))")
    ended, log = await sync(api, scope="both", **{"remove-vanished": "acl;entry;properties"})
    assert ended == "OK", log
    assert [row["userid"] for row in await api.data("GET", "/access/users")] == ["ada@corp", "eve@pve", "root@pam"]
    assert await api.data("GET", "/access/acl") == []
    assert await status(api, "bob@corp", "bobs-password") == 401
    groups = {row["groupid"]: row["users"] for row in await api.data("GET", "/access/groups")}
    assert groups == {"dev-corp": "ada@corp", "ops-corp": "ada@corp"}


async def test_a_sync_that_cannot_read_changes_nothing(api: Api, directory: Slapd) -> None:
    await api.data("POST", "/access/domains", **options(directory))
    await api.data("POST", "/access/users", userid="left@corp")
    await api.data("PUT", "/access/domains/corp", password="wrong")
    ended, log = await sync(api, scope="both", **{"remove-vanished": "entry"})
    assert "bind_dn" in ended
    assert "wrong" not in log
    assert len(await api.data("GET", "/access/users")) == 2


async def test_active_directory_binds_by_name_and_domain(api: Api, directory: Slapd) -> None:
    """Before slapd stands what takes `name@domain` for a DN, as Active Directory does; the rest is slapd's own."""
    with relay(directory.port, to_server=upn_to_dn) as port:
        values = options(directory, type="ad", domain="corp.test", port=port, group_classes="group")
        values.pop("user_attr")  # sAMAccountName by itself
        await api.data("POST", "/access/domains", **values)
        ended, log = await sync(api, scope="both")
        assert ended == "OK", log
        rows = {row["userid"] for row in await api.data("GET", "/access/users")}
        assert rows == {"ada@corp", "root@pam"}, "bob has no sAMAccountName"
        assert "ops-corp" in (await api.data("GET", "/access/users/ada@corp"))["groups"]
        assert await status(api, "ada@corp", PASSWORD) == 200
        assert await status(api, "ada@corp", "wrong") == 401
