"""What a sync of a realm decides: who is new, who has changed, who is gone, and who is in which group."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bastide.access.directory import Person, Team, normal
from bastide.access.sync import Present, SyncPlan, options, plan
from bastide.base.errors import InvalidParameter
from bastide.model.access import User
from bastide.model.realm import Realm, SyncOptions

REALM = Realm(realm="corp", type="ldap", server1="d.test", base_dn="dc=test", user_attr="uid")


def person(name: str, **properties: str) -> Person:
    return Person(name, f"uid={name},dc=test", properties)


def team(name: str, *members: str) -> Team:
    return Team(name, frozenset(f"uid={member},dc=test" for member in members))


def present(*users: User, groups: tuple[str, ...] = (), realms: tuple[str, ...] = ()) -> Present:
    return Present({user.userid: user for user in users}, frozenset(groups), frozenset({"corp", "pve", *realms}))


def decide(here: Present, people: list[Person], teams: list[Team] | None = None, **wanted: Any) -> SyncPlan:
    return plan(REALM, SyncOptions.parse({"scope": "both", **wanted}), people, teams, here)


def test_new_people_are_users_who_may_log_in_unless_asked_otherwise() -> None:
    done = decide(present(), [person("ada", email="ada@x.test")])
    assert done.new_users == {"ada@corp": User(userid="ada@corp", email="ada@x.test")}
    done = decide(present(), [person("ada")], **{"enable-new": 0})
    assert not done.new_users["ada@corp"].enable


def test_changes_take_over_what_the_directory_has_and_keep_the_rest() -> None:
    old = User(userid="ada@corp", enable=False, expire=5, email="old@x.test", comment="mine", groups="g")
    done = decide(present(old), [person("ada", email="new@x.test")])
    assert done.changes == {"ada@corp": {"email": "new@x.test"}}
    done = decide(present(old), [person("ada", email="new@x.test")], **{"remove-vanished": "properties"})
    assert done.changes == {"ada@corp": {"email": "new@x.test", "comment": None}}
    assert decide(present(old), [person("ada", email="old@x.test")]).changes == {}


def test_who_has_vanished_stays_unless_asked_otherwise() -> None:
    here = present(User(userid="ada@corp"), User(userid="bob@corp"))
    assert decide(here, [person("ada")]).drop_users == []
    assert decide(here, [person("ada")], **{"remove-vanished": "acl"}).strip == ["bob@corp"]
    done = decide(here, [person("ada")], **{"remove-vanished": "acl;entry"})
    assert (done.drop_users, done.strip) == (["bob@corp"], [])


def test_an_empty_directory_removes_nobody() -> None:
    here = present(User(userid="ada@corp"))
    with pytest.raises(InvalidParameter, match="has no user"):
        decide(here, [], **{"remove-vanished": "entry"})
    assert decide(here, []).drop_users == []


def test_groups_are_the_directorys_with_the_realms_name() -> None:
    here = present(
        User(userid="ada@corp", groups="ops-corp,own"), User(userid="bob@corp"), groups=("ops-corp", "old-corp", "own")
    )
    teams = [team("dev", "ada", "bob", "stranger"), team("ops", "bob")]
    done = decide(here, [person("ada"), person("bob")], teams)
    assert done.new_groups == ["dev-corp"]
    assert done.changes == {"ada@corp": {"groups": "own,dev-corp"}, "bob@corp": {"groups": "dev-corp,ops-corp"}}
    assert done.drop_groups == []
    done = decide(here, [person("ada"), person("bob")], teams, **{"remove-vanished": "entry"})
    assert done.drop_groups == ["old-corp"]


def test_new_people_are_in_their_groups_at_once() -> None:
    done = decide(present(), [person("ada")], [team("dev", "ada")])
    assert done.new_users["ada@corp"].groups == "dev-corp"


def test_the_scope_leaves_the_rest_alone() -> None:
    here = present(User(userid="bob@corp"))
    done = decide(here, [person("ada"), person("bob")], [team("dev", "ada", "bob")], scope="groups")
    assert done.new_users == {}
    assert done.changes == {"bob@corp": {"groups": "dev-corp"}}
    done = decide(here, [person("bob")], None, scope="users", **{"remove-vanished": "entry"})
    assert (done.new_groups, done.drop_groups) == ([], [])


def test_groups_of_a_realm_whose_name_ends_alike_are_its_own() -> None:
    here = present(groups=("x-a-corp", "y-corp"), realms=("a-corp",))
    done = decide(here, [person("ada")], [team("x-a", "ada")], **{"remove-vanished": "entry"})
    assert done.drop_groups == ["y-corp"]
    assert done.new_groups == []
    assert done.new_users["ada@corp"].groups is None
    assert "another realm's" in done.warnings[0]


@pytest.mark.parametrize("name", ["a b", "a:b", "a/b", "", "x" * 64, "a\nb", "a!b", "\u2028"])
def test_names_that_no_user_can_have_are_left_out(name: str) -> None:
    done = decide(present(), [person("ada"), Person(name, "uid=odd")], [team("ops/../x", "ada"), team("y" * 70)])
    assert list(done.new_users) == ["ada@corp"]
    assert done.new_groups == []
    assert len(done.warnings) == 3
    assert all(line.isprintable() for line in done.warnings)


def test_the_second_of_a_name_is_left_out() -> None:
    done = decide(present(), [person("ada", email="1@x"), Person("ada", "uid=ada,ou=b", {"email": "2@x"})])
    assert done.new_users["ada@corp"].email == "1@x"
    assert "another entry" in done.warnings[0]


def test_names_mean_the_same_in_other_cases_where_the_realm_says_so() -> None:
    realm = REALM.model_copy(update={"case_sensitive": False})
    here = present(User(userid="Ada@corp"))
    wanted = SyncOptions(scope="users", remove_vanished="entry")
    done = plan(realm, wanted, [person("ADA"), person("bob")], None, here)
    assert (list(done.new_users), done.drop_users) == (["bob@corp"], [])
    done = plan(REALM, wanted, [person("ADA")], None, here)
    assert (list(done.new_users), done.drop_users) == (["ADA@corp"], ["Ada@corp"])


def test_too_many_groups_for_a_user_are_a_warning() -> None:
    teams = [team(f"{'n' * 50}{number:04}", "ada") for number in range(60)]
    done = decide(present(User(userid="ada@corp")), [person("ada")], teams)
    assert done.changes == {}
    assert "stay as they are" in done.warnings[0]


@given(st.lists(st.text(max_size=12), max_size=6), st.lists(st.text(max_size=12), max_size=6))
def test_whatever_a_directory_holds_only_the_realms_users_and_groups_are_touched(
    names: list[str], teams: list[str]
) -> None:
    here = present(User(userid="ada@corp"), groups=("own", "x-pve", "y-corp"))
    people = [person(name) for name in ["ada", *names]]
    done = decide(here, people, [team(name, "ada") for name in teams], **{"remove-vanished": "acl;entry;properties"})
    touched = [*done.new_users, *done.changes, *done.drop_users]
    assert all(userid.endswith("@corp") for userid in touched)
    assert all(name.endswith("-corp") for name in [*done.new_groups, *done.drop_groups])


def test_options_come_from_the_realm_unless_given() -> None:
    with pytest.raises(InvalidParameter, match="scope"):
        options(REALM, SyncOptions())
    defaults = SyncOptions.parse({"scope": "both", "remove-vanished": "acl", "enable-new": 0})
    realm = REALM.model_copy(update={"sync_defaults_options": defaults})
    chosen = options(realm, SyncOptions(scope="users"))
    assert (chosen.scope, chosen.remove_vanished, chosen.enable_new) == ("users", "acl", False)
    old = options(REALM, SyncOptions(scope="users", full=True, purge=True))
    assert old.remove_vanished == "entry;properties;acl"


def test_dns_are_compared_as_directories_mean_them() -> None:
    assert normal("CN=Ada,  OU=People ,DC=test") == normal("cn=ada,ou=people,dc=test")
    assert normal(r"cn=a\, b,dc=x") != normal("cn=a,b,dc=x")
