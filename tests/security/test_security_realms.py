"""Realms in hostile hands: names that would be filters, directories that lie, secrets that would go elsewhere.

Attack classes 10 (options in values, here LDAP's filters and names), 19 (guessing), 20 (the host as a client), 25
(secrets that are seen), 27 (rights that are gone). With `parse` in place of `equals`, without the checks for an empty
password, without the number by chance after StartTLS, and with loopback for every realm, six of these fail.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from bastide.access.access import PACE_OF_OTHERS, Access
from bastide.access.directory import LOOPBACK
from bastide.base.errors import AuthenticationFailed, HostFailure
from bastide.host import ber, ldap
from bastide.host.download import Guard
from bastide.model.access import Identity, User
from bastide.model.realm import Realm
from framework.api import Api, call
from framework.ldap_relay import Change, relay, same
from framework.slapd import ADMIN, PEOPLE, SECRET, Slapd, group, person

pytestmark = pytest.mark.anyio

PASSWORD = "a-password-of-ada"
WILD = [
    "*", "a*", "ada)(uid=*", "*)(uid=*))(|(uid=*", "ada)(|(objectClass=*)", "ada\\2a", "\\61da", "(ada)", "ada\\00",
    "uid=ada,ou=people", "ada+sn=ada", "ada,ou=people,dc=test", "#616461", "ada\\,x", "ADA", "ada)", "&ada",
]  # fmt: skip
"""Names that mean ada, or anybody, to who puts them into a filter or a DN as they are; all can be users' names."""


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slapd]:
    people = [person("ada", PASSWORD), person("bob", "bobs-password")]
    with Slapd.launched(tmp_path_factory.mktemp("slapd") / "d", *people, group("ops", "ada")) as launched:
        yield launched


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    made = await Api.make(tmp_path)
    yield made
    await made.services.rooms.tasks.shutdown()


def options(port: int, **more: Any) -> dict[str, Any]:
    return {
        "realm": "corp", "type": "ldap", "server1": "127.0.0.1", "port": port, "base_dn": "dc=test", "user_attr": "uid",
        "bind_dn": ADMIN, "password": SECRET, **more,
    }  # fmt: skip


async def status(api: Api, username: str, password: str) -> int:
    answer = await call(api.client, "POST", "/access/ticket", username=username, password=password)
    return answer.status_code


async def test_a_name_is_a_name_whatever_is_in_it(api: Api, directory: Slapd) -> None:
    await api.data("POST", "/access/domains", **options(directory.port))
    for name in [*WILD, "ada"]:
        await api.data("POST", "/access/users", userid=f"{name}@corp")
    assert await status(api, "ada@corp", PASSWORD) == 200, "the directory lets nobody in at all"
    for name in WILD:
        # slapd compares `uid` without regard to case: ADA is ada there.
        wanted = 200 if name == "ADA" else 401
        assert await status(api, f"{name}@corp", PASSWORD) == wanted, name


@pytest.mark.parametrize("password", ["", "\0", "\0" + PASSWORD])
async def test_who_gives_no_password_is_not_let_in(api: Api, directory: Slapd, password: str) -> None:
    """Some directories answer success to a name with an empty password, and mean nobody (RFC 4513, section 5.1.2).

    Without the check in `Directory.bind` and in `knows`, a directory that allows it lets everybody in.
    """
    await api.data("POST", "/access/domains", **options(directory.port))
    await api.data("POST", "/access/users", userid="ada@corp")
    assert await status(api, "ada@corp", password) != 200
    realm = await api.services.access.realms.get("corp")
    found = api.services.access._directories
    assert await found.knows(realm, "ada", PASSWORD)
    assert not await found.knows(realm, "ada", "")
    assert not await found.knows(realm, "", PASSWORD)


async def test_an_answer_that_was_put_on_the_line_before_tls_is_not_believed(directory: Slapd) -> None:
    """Somebody in between sends, behind the answer to StartTLS, the success of every bind that could follow."""

    def inject(data: bytes) -> bytes:
        try:
            number, operation = ber.Element(0, data).children()[0].children()[:2]
        except (ValueError, IndexError):
            return data  # TLS has begun
        if operation.tag != 0x78:
            return data
        result = (ber.integer(0, ber.ENUMERATED), ber.octets(""), ber.octets(""))
        return data + ber.sequence(ber.integer(number.number + 1), ber.encode(0x61, *result))

    async def bind(change: Change, password: str) -> bool:
        context = ldap.tls_context(verify=True, authorities=str(directory.authority))
        with relay(directory.port, to_client=change) as port:
            server = ldap.Server("127.0.0.1", port, context, True, Guard(networks=LOOPBACK))
            async with ldap.connected([server]) as connection:
                return await connection.bind(f"uid=ada,{PEOPLE}", password)

    assert await bind(same, PASSWORD), "nothing passes the relay"
    with pytest.raises(HostFailure, match="not asked"):
        await bind(inject, "wrong")


async def test_the_bind_password_is_sent_where_its_owner_said_alone(api: Api, directory: Slapd) -> None:
    heard: list[bytes] = []

    def listen(data: bytes) -> bytes:
        heard.append(data)
        return data

    await api.data("POST", "/access/domains", **options(directory.port))
    await api.data("POST", "/access/roles", roleid="Realms", privs="Realm.Allocate,Realm.AllocateUser,User.Modify")
    eve = await api.token("eve@pve", grants={"/access": "Realms"})
    with relay(directory.port, to_server=listen) as port:
        for change in ({"port": port}, {"server1": "127.0.0.1", "port": port, "check-connection": 1}):
            answer = await call(eve, "PUT", "/access/domains/corp", **change)
            assert answer.status_code == 400, answer.text
        upid = (await call(eve, "POST", "/access/domains/corp/sync", scope="users")).json()["data"]
        assert await api.wait(upid) == "OK"
        assert heard == []
        await api.data("PUT", "/access/domains/corp", port=port)
        upid = (await call(eve, "POST", "/access/domains/corp/sync", scope="users")).json()["data"]
        assert await api.wait(upid) == "OK"
        assert SECRET.encode() in b"".join(heard), "the relay does not hear"


async def test_a_realm_names_this_host_by_the_hand_of_who_may_change_it(api: Api, directory: Slapd) -> None:
    await api.data("POST", "/access/roles", roleid="Realms", privs="Realm.Allocate")
    eve = await api.token("eve@pve", grants={"/access": "Realms"})
    for server in ("127.0.0.1", "localhost", "::1", "169.254.169.254", "0.0.0.0", "::ffff:127.0.0.1"):
        values = options(directory.port, server1=server, **{"check-connection": 1})
        answer = await call(eve, "POST", "/access/domains", **values)
        assert answer.status_code == 403, (server, answer.text)
    issuer = {"realm": "sso", "type": "openid", "issuer-url": f"http://127.0.0.1:{directory.port}", "client-id": "x"}
    assert (await call(eve, "POST", "/access/domains", **issuer)).status_code == 200
    begun = {"realm": "sso", "redirect-url": "https://pve:8006"}
    assert (await call(api.client, "POST", "/access/openid/auth-url", **begun)).status_code == 403


async def test_secrets_are_in_no_answer_log_or_task(
    api: Api, directory: Slapd, caplog: pytest.LogCaptureFixture
) -> None:
    await api.data("POST", "/access/domains", **options(directory.port))
    await api.data("POST", "/access/users", userid="ada@corp")
    await status(api, "ada@corp", PASSWORD)
    await status(api, "ada@corp", "not-" + PASSWORD)
    upid = await api.data("POST", "/access/domains/corp/sync", scope="both", **{"dry-run": 1})
    await api.wait(upid)
    task = f"/nodes/pve/tasks/{upid}"
    paths = ("/access/domains", "/access/domains/corp", "/access/users", f"{task}/log", f"{task}/status")
    shown = [await api.data("GET", path) for path in paths]
    layout = api.services.rooms.layout
    logs = [path.read_text(errors="replace") for path in layout.logs.rglob("*") if path.is_file()]
    for secret in (SECRET, PASSWORD):
        assert secret not in f"{shown}{caplog.text}{logs}"


async def test_a_directory_cannot_make_users_or_groups_of_other_realms(api: Api, tmp_path: Path) -> None:
    names = ["root@pam", "eve@pve", "x@pve!t", "..", "a/b", "-rf", "a b"]
    odd = [person(f"n{number}", sAMAccountName=name) for number, name in enumerate(names)]
    with Slapd.launched(tmp_path / "odd", *odd, group("admins-pve", "n0"), group("ops", "n0")) as hostile:
        await api.data("POST", "/access/groups", groupid="admins-pve")
        await api.data("POST", "/access/domains", **options(hostile.port, user_attr="sAMAccountName"))
        upid = await api.data(
            "POST", "/access/domains/corp/sync", scope="both", **{"remove-vanished": "acl;entry;properties"}
        )
        assert (await api.wait(upid)).startswith("WARNINGS")
        users = {row["userid"] for row in await api.data("GET", "/access/users")}
        assert users == {"root@pam", "root@pam@corp", "eve@pve@corp", "..@corp", "-rf@corp"}
        groups = {row["groupid"]: row["users"] for row in await api.data("GET", "/access/groups")}
        assert groups == {"admins-pve": "", "admins-pve-corp": "root@pam@corp", "ops-corp": "root@pam@corp"}
        authority = await api.services.access.authority()
        assert not any(authority.permissions(Identity(user), "/") for user in users - {"root@pam"})


async def test_a_directory_that_hangs_holds_up_its_own_users_alone(
    api: Api, directory: Slapd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ldap, "ANSWER_DEADLINE", 3.0)
    hanging = await asyncio.start_server(lambda reader, _writer: reader.read(), "127.0.0.1", 0)
    port = hanging.sockets[0].getsockname()[1]
    await api.data("POST", "/access/domains", **options(directory.port))
    await api.data("POST", "/access/domains", **options(port, realm="hung"))
    await api.data("POST", "/access/users", userid="ada@corp")
    for number in range(40):
        await api.data("POST", "/access/users", userid=f"u{number}@hung")
    waiting = [asyncio.ensure_future(status(api, f"u{number}@hung", "x")) for number in range(40)]
    await asyncio.sleep(0.2)
    try:
        assert await status(api, "ada@corp", PASSWORD) == 200
        assert not any(task.done() for task in waiting), "it was answered before the hung ones were"
        assert await waiting[0] == 401
    finally:
        for task in waiting:
            task.cancel()
        hanging.close()


async def test_wrong_logins_take_as_long_for_who_is_a_user_and_who_is_not(tmp_path: Path, directory: Slapd) -> None:
    api = await Api.make(tmp_path)
    access = Access(api.services.rooms.store, "pve", api.services.rooms.layout)
    values = options(directory.port, trusted=1)
    secret = values.pop("password")
    await access.realms.create(Realm.parse(values), {"password": secret})
    await access.users.create(User(userid="ada@corp"))

    async def took(userid: str) -> float:
        begun = time.monotonic()
        with pytest.raises(AuthenticationFailed):
            await access.authenticate(userid, "wrong", "192.0.2.1")
        return time.monotonic() - begun

    found = await asyncio.gather(took("ada@corp"), took("nobody@corp"), took("ada@nowhere"))
    assert min(found) >= PACE_OF_OTHERS - 0.1
    assert max(found) < PACE_OF_OTHERS * 3
    await api.services.rooms.tasks.shutdown()
