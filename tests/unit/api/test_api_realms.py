"""`/access/domains`: adding, changing and removing realms, and what is never shown."""

import os
from pathlib import Path
from typing import Any

import pytest

from framework.api import Api, call

pytestmark = pytest.mark.anyio

LDAP = {"type": "ldap", "server1": "directory.test", "base_dn": "dc=test", "user_attr": "uid"}
OPENID = {"type": "openid", "issuer-url": "https://id.test", "client-id": "bastide"}
SECRET = "not-to-be-seen"


async def refused(api: Api, method: str, path: str, *words: str, status: int = 400, **values: Any) -> None:
    answer = await call(api.root, method, path, **values)
    assert answer.status_code == status, answer.text
    assert all(word in answer.text for word in words), answer.text


async def add(api: Api, realm: str = "corp", **options: Any) -> None:
    await api.data("POST", "/access/domains", realm=realm, **{**LDAP, **options})


async def test_the_world_sees_names_and_types_alone(api: Api) -> None:
    await add(api, comment="The office", default=1, bind_dn="cn=reader", password=SECRET)
    answer = await api.client.get("/access/domains")
    assert answer.json()["data"] == [
        {"realm": "corp", "type": "ldap", "comment": "The office", "default": 1},
        {"realm": "pam", "type": "pam", "comment": "Linux PAM standard authentication"},
        {"realm": "pve", "type": "pve", "comment": "Bastide authentication server"},
    ]


async def test_options_come_back_and_secrets_do_not(api: Api, tmp_path: Path) -> None:
    options = {
        "server2": "192.0.2.7", "port": 3389, "mode": "ldap+starttls", "verify": 1, "filter": "(a=b)",
        "bind_dn": "cn=r",
        "sync_attributes": "email=mail,firstname=givenName", "sync-defaults-options": "scope=both,enable-new=0",
        "group_dn": "ou=groups,dc=test", "case-sensitive": 0,
    }  # fmt: skip
    await add(api, password=SECRET, **options)
    await api.data("POST", "/access/domains", realm="sso", **OPENID, **{"client-key": SECRET, "autocreate": 1})
    shown = await api.data("GET", "/access/domains/corp")
    digest = shown.pop("digest")
    assert shown == {**LDAP, **options}
    assert len(digest) == 40
    files = [path for path in tmp_path.rglob("*") if path.is_file() and SECRET in path.read_text(errors="replace")]
    assert sorted(path.name for path in files) == ["corp.password", "sso.client-key"]
    assert all(path.stat().st_mode & 0o777 == 0o600 and path.stat().st_uid == os.getuid() for path in files)
    for path in ("/access/domains", "/access/domains/corp", "/access/domains/sso"):
        assert SECRET not in (await api.root.get(path)).text
    assert not any(SECRET in entry.value for entry in await api.services.rooms.store.list(""))


async def test_a_realm_is_changed_and_its_options_unset(api: Api) -> None:
    await add(api, comment="x", server2="two.test")
    digest = (await api.data("GET", "/access/domains/corp"))["digest"]
    await api.data("PUT", "/access/domains/corp", delete="comment,server2", filter="(a=b)", digest=digest)
    shown = await api.data("GET", "/access/domains/corp")
    assert {key: value for key, value in shown.items() if key != "digest"} == {**LDAP, "filter": "(a=b)"}
    await refused(api, "PUT", "/access/domains/corp", status=500, comment="y", digest=digest)
    for key in ("type", "realm", "trusted", "nonsense", "client-key"):
        await refused(api, "PUT", "/access/domains/corp", key, delete=key)
    await refused(api, "PUT", "/access/domains/corp", "base_dn", "not optional", delete="base_dn")


async def test_the_newest_default_is_the_only_one(api: Api) -> None:
    await add(api, default=1)
    await api.data("PUT", "/access/domains/pve", default=1, comment="Ours")
    rows = {row["realm"]: row for row in await api.data("GET", "/access/domains")}
    assert [name for name, row in rows.items() if row.get("default")] == ["pve"]
    assert rows["pve"]["comment"] == "Ours"


async def test_built_in_realms_stay(api: Api) -> None:
    for name in ("pam", "pve"):
        await refused(api, "POST", "/access/domains", "already exists", status=500, realm=name, type=name)
        await refused(api, "POST", "/access/domains", "already exists", status=500, realm=name, **LDAP)
        await refused(api, "DELETE", f"/access/domains/{name}", "built in", status=500)
        await refused(api, "PUT", f"/access/domains/{name}", "server1", server1="x.test")
    await refused(api, "POST", "/access/domains", "already exists", status=500, realm="other", type="pam")
    await add(api)
    await refused(api, "POST", "/access/domains", "already exists", status=500, realm="corp", **LDAP)
    await refused(api, "DELETE", "/access/domains/nobody", "does not exist", status=500)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"server1": ""}, "server1"),
        ({"server1": "a b"}, "server1"),
        ({"server1": "ldap://x"}, "server1"),
        ({"port": 0}, "port"),
        ({"mode": "tls"}, "mode"),
        ({"filter": "(a=b"}, "filter"),
        ({"group_filter": "x"}, "group_filter"),
        ({"user_attr": "a=b)(c"}, "user_attr"),
        ({"sync_attributes": "enable=x"}, "sync_attributes"),
        ({"sync_attributes": "email"}, "sync_attributes"),
        ({"sync-defaults-options": "scope=all"}, "scope"),
        ({"sync-defaults-options": "remove-vanished=all"}, "remove-vanished"),
        ({"sslversion": "tlsv1"}, "TLS 1.2"),
        ({"cert": "/etc/x.pem"}, "certkey"),
        ({"capath": "relative"}, "capath"),
        ({"domain": "x.test"}, "domain"),
        ({"client-id": "x"}, "client-id"),
        ({"client-key": "x"}, "client-key"),
        ({"type": "ad"}, "domain"),
        ({"type": "openid"}, "client-id"),
        ({"realm": "a"}, "realm"),
        ({"realm": "-a"}, "realm"),
        ({"realm": "a/b"}, "realm"),
        ({"base_dn": "dc=a\nbind_dn: x"}, "base_dn"),
        ({"trusted": 1}, "trusted"),
    ],
)
async def test_options_that_cannot_be_are_named(api: Api, options: dict[str, Any], word: str) -> None:
    await refused(api, "POST", "/access/domains", word, **{"realm": "corp", **LDAP, **options})
    assert len(await api.data("GET", "/access/domains")) == 2


async def test_an_issuer_is_asked_by_https_alone_unless_it_is_here(api: Api) -> None:
    for url in (
        "http://id.test",
        "ftp://id.test",
        "https://me:pw@id.test",
        "https://id.test/#x",
        "https://",
        "id.test",
    ):
        values = {**OPENID, "issuer-url": url}
        await refused(api, "POST", "/access/domains", "issuer-url", realm="sso", **values)
    await api.data("POST", "/access/domains", realm="sso", **{**OPENID, "issuer-url": "http://localhost:9000/x"})


async def test_factors_of_a_realm_are_not_built(api: Api) -> None:
    await refused(api, "POST", "/access/domains", "tfa", status=501, realm="corp", tfa="type=oath", **LDAP)


async def test_only_who_may_change_the_host_names_its_files_and_addresses(api: Api) -> None:
    await api.data("POST", "/access/roles", roleid="Realms", privs="Realm.Allocate")
    ada = await api.token(grants={"/access/realm": "Realms"})
    answer = await call(ada, "POST", "/access/domains", realm="corp", capath="/etc/shadow", **LDAP)
    assert answer.status_code == 403
    values = {**LDAP, "server1": "127.0.0.1", "port": 1, "check-connection": 1}
    answer = await call(ada, "POST", "/access/domains", realm="corp", **values)
    assert answer.status_code == 403
    assert "does not connect to" in answer.text


async def test_a_secret_is_not_sent_elsewhere_by_who_does_not_know_it(api: Api) -> None:
    await api.data("POST", "/access/roles", roleid="Realms", privs="Realm.Allocate")
    ada = await api.token(grants={"/access/realm": "Realms"})
    await add(api, bind_dn="cn=reader", password=SECRET, verify=1)
    for change in ({"server1": "evil.test"}, {"server2": "evil.test"}, {"verify": 0}, {"mode": "ldap", "port": 1}):
        answer = await call(ada, "PUT", "/access/domains/corp", **change)
        assert answer.status_code == 400
        assert "give it again" in answer.text
    assert (await call(ada, "PUT", "/access/domains/corp", comment="fine")).status_code == 200
    assert (await call(ada, "PUT", "/access/domains/corp", server1="new.test", password="known")).status_code == 200
    await api.data("PUT", "/access/domains/corp", server1="newer.test")


async def test_users_of_a_realm_need_it_and_have_no_password_here(api: Api) -> None:
    await refused(api, "POST", "/access/users", "does not exist", status=500, userid="bob@corp")
    await add(api)
    await api.data("POST", "/access/users", userid="bob@corp")
    await refused(api, "PUT", "/access/password", "its realm", status=500, userid="bob@corp", password="long-enough")
    await refused(api, "POST", "/access/users", "its realm", status=500, userid="eve@corp", password="long-enough")
    rows = await api.data("GET", "/access/users")
    assert [row["userid"] for row in rows] == ["bob@corp", "root@pam"]


async def test_a_realm_that_is_gone_lets_nobody_in(api: Api) -> None:
    await add(api, password=SECRET, bind_dn="cn=r")
    bob = await api.token("bob@corp", grants={"/": "PVEAuditor"})
    ticket, _ = await api.services.access.issue_ticket("bob@corp")
    cookie = {"cookie": f"PVEAuthCookie={ticket}"}
    assert (await bob.get("/nodes")).status_code == 200
    assert (await api.client.get("/nodes", headers=cookie)).status_code == 200
    await api.data("DELETE", "/access/domains/corp")
    assert (await bob.get("/nodes")).status_code == 401
    assert (await api.client.get("/nodes", headers=cookie)).status_code == 401
    secrets = api.services.rooms.layout.state / "secrets/realm"
    assert list(secrets.iterdir()) == []


async def test_a_sync_is_for_directories(api: Api) -> None:
    await refused(api, "POST", "/access/domains/pve/sync", "cannot be synced", status=500, scope="both")
    await refused(api, "POST", "/access/domains/nobody/sync", "does not exist", status=500, scope="both")
    await add(api)
    await refused(api, "POST", "/access/domains/corp/sync", "scope")
    await refused(api, "POST", "/access/domains/corp/sync", "remove-vanished", **{"remove-vanished": "all"})
