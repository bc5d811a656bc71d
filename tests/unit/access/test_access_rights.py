"""Rights: Proxmox's rules along a path, lists that are kept, and what goes when its owner goes."""

import time
from pathlib import Path
from typing import Any

import pytest

from bastide.access.access import Access
from bastide.access.authority import Authority, normalize_path
from bastide.access.checks import enforce, permitted
from bastide.access.grants import forget_path
from bastide.access.roles import BUILTIN_ROLES, PRIVILEGES
from bastide.base.errors import AlreadyExists, InvalidParameter, NotFound, PermissionDenied, WrongState
from bastide.base.layout import Layout
from bastide.model.access import ROOT, Grant, Identity, Token, User
from bastide.state.memory import MemoryStore

ADA = Identity("ada@pve")
SEPARATED = Identity("ada@pve", "sep")
FULL = Identity("ada@pve", "full")


def grant(path: str, subject: str, role: str, propagate: bool = True) -> Grant:
    kind = "token" if "!" in subject else "user" if "@" in subject else "group"
    return Grant(path=path, subject=subject, kind=kind, role=role, propagate=propagate)


def authority(*grants: Grant, pools: dict[str, tuple[str, ...]] | None = None) -> Authority:
    tokens = {
        f"{userid}!{name}": Token(userid=userid, tokenid=name, privsep=name == "sep", secret="")
        for userid in ("ada@pve", "root@pam")
        for name in ("sep", "full")
    }
    users = {userid: User(userid=userid) for userid in ("ada@pve", "root@pam")}
    return Authority(users, tokens, {"staff": frozenset({"ada@pve"})}, BUILTIN_ROLES, grants, pools or {})


USER, ADMIN, AUDIT = "PVEVMUser", "PVEVMAdmin", "PVEAuditor"


@pytest.mark.parametrize(
    ("who", "grants", "path", "role"),
    [
        (ADA, [grant("/", "ada@pve", USER)], "/vms/100", USER),
        (ADA, [grant("/vms", "ada@pve", USER, False)], "/vms/100", None),
        (ADA, [grant("/vms", "ada@pve", USER, False)], "/vms", USER),
        (ADA, [grant("/vms/10", "ada@pve", USER)], "/vms/100", None),
        (ADA, [grant("/", "ada@pve", ADMIN), grant("/vms", "ada@pve", USER)], "/vms/100", USER),
        (ADA, [grant("/", "ada@pve", ADMIN), grant("/vms", "staff", USER)], "/vms/100", USER),
        (ADA, [grant("/", "ada@pve", ADMIN), grant("/vms", "ada@pve", USER, False)], "/vms/100", ADMIN),
        (ADA, [grant("/vms", "ada@pve", USER), grant("/vms", "staff", ADMIN)], "/vms/100", USER),
        (ADA, [grant("/vms", "ada@pve", USER, False), grant("/vms", "staff", ADMIN)], "/vms/100", ADMIN),
        (ADA, [grant("/", "ada@pve", ADMIN), grant("/vms/100", "ada@pve", "NoAccess")], "/vms/100", None),
        (ADA, [grant("/", "ada@pve", "NoAccess"), grant("/", "ada@pve", ADMIN)], "/vms/100", None),
        (ADA, [grant("/", "ada@pve", "NoAccess"), grant("/vms/100", "ada@pve", USER)], "/vms/100", USER),
        (ADA, [grant("/vms", "other", ADMIN)], "/vms/100", None),
        (ADA, [grant("/vms", "ada@pve", "Gone")], "/vms/100", None),
        (Identity("eve@pve"), [grant("/", "eve@pve", ADMIN)], "/vms/100", None),
        (Identity("ada@pve", "gone"), [grant("/", "ada@pve", ADMIN)], "/vms/100", None),
        (FULL, [grant("/", "ada@pve", USER), grant("/", "ada@pve!full", ADMIN)], "/vms/100", USER),
        (SEPARATED, [grant("/", "ada@pve", ADMIN)], "/vms/100", None),
        (SEPARATED, [grant("/", "ada@pve!sep", ADMIN)], "/vms/100", None),
        (SEPARATED, [grant("/", "ada@pve", USER), grant("/", "ada@pve!sep", ADMIN)], "/vms/100", USER),
        (SEPARATED, [grant("/", "ada@pve", ADMIN), grant("/", "ada@pve!sep", USER)], "/vms/100", USER),
        (Identity("root@pam", "sep"), [grant("/vms", "root@pam!sep", USER)], "/vms/100", USER),
        (Identity("root@pam", "sep"), [], "/vms/100", None),
        (Identity("root@pam", "full"), [], "/vms/100", "Administrator"),
        (ROOT, [grant("/", "root@pam", "NoAccess")], "/vms/100", "Administrator"),
    ],
)
def test_the_most_specific_grant_wins(who: Identity, grants: list[Grant], path: str, role: str | None) -> None:
    held = authority(*grants).permissions(who, path)
    assert set(held) == (BUILTIN_ROLES[role] if role else set())


def test_a_pool_adds_to_its_members_and_its_ban_takes_all() -> None:
    pools = {"/vms/100": ("/pool/a",)}
    both = authority(grant("/pool/a", "ada@pve", USER), grant("/vms", "ada@pve", AUDIT), pools=pools)
    assert set(both.permissions(ADA, "/vms/100")) == BUILTIN_ROLES[USER] | BUILTIN_ROLES[AUDIT]
    assert both.permissions(ADA, "/vms/100")["VM.Console"] is False
    assert both.permissions(ADA, "/vms/100")["VM.Audit"] is True
    assert set(both.permissions(ADA, "/vms/101")) == BUILTIN_ROLES[AUDIT]
    banned = authority(grant("/pool/a", "ada@pve", "NoAccess"), grant("/vms", "ada@pve", ADMIN), pools=pools)
    assert banned.permissions(ADA, "/vms/100") == {}


def test_the_refusal_names_path_and_privilege() -> None:
    nobody = authority()
    with pytest.raises(PermissionDenied, match=r"^Permission check failed \(/vms/100, VM.Audit\)$"):
        nobody.check(ADA, "/vms/100", ("VM.Audit", "VM.Console"))
    with pytest.raises(PermissionDenied, match=r"^Permission check failed \(/vms/100, VM.Audit\|VM.Console\)$"):
        nobody.check(ADA, "/vms/100", ("VM.Audit", "VM.Console"), any=True)
    nobody.check(ROOT, "/vms/100", ("VM.Audit",))


@pytest.mark.parametrize(
    ("path", "normal"),
    [("/", "/"), ("//", "/"), ("/vms//100/", "/vms/100"), ("vms", None), ("", None), ("/a b", None), ("/a\n", None)],
)
def test_paths_are_made_plain(path: str, normal: str | None) -> None:
    assert normalize_path(path) == normal


@pytest.mark.parametrize("value", [None, "", "1 0", "100\n", "\0", "x" * 1000])
def test_a_path_that_cannot_be_filled_lets_nobody_in(value: Any) -> None:
    check = ("perm", "/vms/{vmid}", ("VM.Audit",))
    assert not permitted(authority(grant("/", "ada@pve", ADMIN)), ADA, check, {"vmid": value})


def test_root_only_methods_are_not_for_its_tokens() -> None:
    assert permitted(authority(), ROOT, None, {})
    assert not permitted(authority(), Identity("root@pam", "full"), None, {})


def test_ten_thousand_guests_are_filtered_fast() -> None:
    rights = authority(*(grant(f"/vms/{vmid}", "ada@pve", USER) for vmid in range(100, 10_100)))
    begun = time.process_time()
    seen = [vmid for vmid in range(100, 10_200) if rights.allows(ADA, f"/vms/{vmid}", ("VM.Audit",))]
    assert len(seen) == 10_000
    assert time.process_time() - begun < 0.5


@pytest.fixture
async def access(tmp_path: Path) -> Access:
    made = Access(MemoryStore(), "node1", Layout(tmp_path), pace=0)
    await made.groups.create("staff", "the crew")
    await made.users.create(User(userid="ada@pve", groups="staff"))
    return made


@pytest.mark.anyio
async def test_rights_follow_every_change_at_once(access: Access) -> None:
    assert not await access.permissions(ADA, "/vms/100")
    await access.grants.set("/vms/", [USER], groups=["staff"])
    assert set(await access.permissions(ADA, "/vms/100")) == BUILTIN_ROLES[USER]
    await access.users.update("ada@pve", {"groups": ""})
    assert not await access.permissions(ADA, "/vms/100")
    await access.users.update("ada@pve", {"groups": "staff"}, append=True)
    await access.roles.create("Mine", ["VM.Audit"])
    await access.grants.set("/vms/100", ["Mine"], users=["ada@pve"], propagate=False)
    await enforce(access, ADA, ("perm", "/vms/{vmid}", ("VM.Audit",)), {"vmid": 100})
    await access.roles.update("Mine", ["VM.Console"], append=True)
    await access.check(ADA, "/vms/100", ("VM.Audit", "VM.Console"))
    await access.delete_role("Mine")
    assert set(await access.permissions(ADA, "/vms/100")) == BUILTIN_ROLES[USER]
    await access.grants.set("/vms", [USER], groups=["staff"], delete=True)
    assert await access.grants.list() == []


@pytest.mark.anyio
async def test_the_next_of_a_name_inherits_nothing(tmp_path: Path) -> None:
    store = MemoryStore()
    access = Access(store, "node1", Layout(tmp_path), pace=0)
    await access.groups.create("staff")
    await access.users.create(User(userid="ada@pve", groups="staff"))
    await access.tokens.create("ada@pve", "ci")
    await access.grants.set("/vms/100", [ADMIN], users=["ada@pve"], tokens=["ada@pve!ci"], groups=["staff"])
    await access.grants.set("/vms/101", [ADMIN], users=["ada@pve"])
    await forget_path(store, "/vms/100")
    assert [one.path for one in await access.grants.list()] == ["/vms/101"]
    await access.grants.set("/vms/100", [ADMIN], tokens=["ada@pve!ci"], groups=["staff"])
    await access.delete_group("staff")
    assert (await access.users.get("ada@pve")).groups is None
    await access.delete_user("ada@pve")
    assert await store.list("") == []
    assert [user.userid for user in await access.users.list()] == ["root@pam"]


@pytest.mark.anyio
async def test_what_cannot_be_is_refused_with_its_name(access: Access) -> None:
    for call, error in [
        (access.users.create(User(userid="ada@pve")), AlreadyExists),
        (access.users.create(User(userid="root@pam")), AlreadyExists),
        (access.users.create(User(userid="bob@ldap")), NotFound),
        (access.users.create(User(userid="bob\u200b@pve")), InvalidParameter),
        (access.users.create(User(userid="bob@pve", groups="gone")), NotFound),
        (access.users.update("bob@pve", {}), NotFound),
        (access.users.update("ada@pve", {"groups": "gone"}), NotFound),
        (access.users.update("ada@pve", {"comment": "a\0b"}), InvalidParameter),
        (access.users.update("ada@pve", {"colour": "red"}), InvalidParameter),
        (access.delete_user("root@pam"), WrongState),
        (access.delete_user("x" * 5000), NotFound),
        (access.tokens.create("bob@pve", "ci"), NotFound),
        (access.tokens.create("ada@pve", "1 2"), InvalidParameter),
        (access.tokens.update("ada@pve", "gone", {}), NotFound),
        (access.groups.create("staff"), AlreadyExists),
        (access.groups.create("a b"), InvalidParameter),
        (access.groups.create("ok", "a\0b"), InvalidParameter),
        (access.roles.create(ADMIN), InvalidParameter),
        (access.roles.create("Administrator"), AlreadyExists),
        (access.roles.create("Mine", ["VM.Fly"]), InvalidParameter),
        (access.roles.update("NoAccess", []), WrongState),
        (access.roles.delete("Administrator"), WrongState),
        (access.roles.delete("Gone"), NotFound),
        (access.grants.set("/vms/../x", [USER], users=["ada@pve"]), InvalidParameter),
        (access.grants.set("/vms/1", [USER], users=["ada@pve"]), InvalidParameter),
        (access.grants.set("/vms", ["Gone"], users=["ada@pve"]), NotFound),
        (access.grants.set("/vms", [USER], users=["bob@pve"]), NotFound),
        (access.grants.set("/vms", [USER], groups=["gone"]), NotFound),
        (access.grants.set("/vms", [USER], tokens=["ada@pve!gone"]), NotFound),
        (access.grants.set("/vms", [USER]), InvalidParameter),
    ]:
        with pytest.raises(error):
            await call
    assert await access.grants.list() == []
    assert [user.userid for user in await access.users.list()] == ["ada@pve", "root@pam"]


@pytest.mark.anyio
async def test_nobody_hands_out_more_than_they_have(access: Access) -> None:
    await access.grants.set("/vms", [ADMIN], users=["ada@pve"])
    await access.check_grant(ADA, "/vms/100", [USER])
    with pytest.raises(PermissionDenied):
        await access.check_grant(ADA, "/vms/100", ["PVEAdmin"])
    await access.grants.set("/vms/100", ["Administrator"], users=["ada@pve"])
    await access.check_grant(ADA, "/vms/100", ["Administrator"])
    await access.tokens.create("ada@pve", "sep")
    await access.tokens.create("ada@pve", "full", privsep=False)
    await access.check_own_change(ADA, "ada@pve")
    await access.check_own_change(FULL, "ada@pve")
    await access.check_own_change(SEPARATED, "bob@pve")
    with pytest.raises(PermissionDenied):
        await access.check_own_change(SEPARATED, "ada@pve")


def test_the_built_in_roles_are_proxmoxs(reference: Path) -> None:
    schema = (reference / "pve-api-9.1.json").read_text()
    named = {name for name in PRIVILEGES if f'"{name}":{{"optional":1,"type":"boolean"}}' in schema}
    assert named == PRIVILEGES
    assert len(BUILTIN_ROLES) == 17
    assert not BUILTIN_ROLES["PVEAdmin"] & {"Permissions.Modify", "Realm.Allocate", "Sys.Modify", "Sys.PowerMgmt"}
