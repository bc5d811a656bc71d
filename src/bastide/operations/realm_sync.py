"""Taking users and groups from a directory into this host, as a task whose log says what it does."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from bastide.access import directory
from bastide.access.sync import Present, SyncPlan, options, plan
from bastide.access.users import realm_of
from bastide.base.errors import BastideError, NotSupported
from bastide.base.ids import Upid
from bastide.model.access import Identity
from bastide.model.realm import Realm, SyncOptions
from bastide.operations.rooms import Rooms
from bastide.tasks.tasks import Task

_Step = tuple[str, Sequence[str], Callable[[str], Awaitable[None]]]

_AT_ONCE = 200
"""Changes that are written together: the store makes one commit of those of a moment."""


async def sync(rooms: Rooms, by: Identity, name: str, given: SyncOptions, *, dry_run: bool = False) -> Upid:
    """Start the sync of a realm; a dry run only says what it would do.

    Raises NotFound, NotSupported for a realm that is no directory, InvalidParameter.
    """
    realm = await rooms.access.realms.get(name)
    if not realm.is_directory:
        raise NotSupported(f"realm '{name}' has the type {realm.type}, and cannot be synced: only ldap and ad can")
    wanted = options(realm, given)

    async def work(task: Task) -> None:
        # Two at once would each plan with what the other one changes.
        async with rooms.making.setdefault(f"realm/{name}", asyncio.Lock()):
            await _sync(rooms, task, await rooms.access.realms.get(name), wanted, dry_run=dry_run)

    kind = "auth-realm-sync-test" if dry_run else "auth-realm-sync"
    return await rooms.tasks.start(kind, name, by, work)


async def _sync(rooms: Rooms, task: Task, realm: Realm, wanted: SyncOptions, *, dry_run: bool) -> None:
    secret = rooms.access.realms.secret(realm)
    task.log(f"reading realm '{realm.realm}' from {realm.server1}")
    people = await directory.people(realm, secret)
    teams = await directory.teams(realm, secret) if wanted.scope != "users" else None
    task.log(f"found {len(people)} users" + ("" if teams is None else f" and {len(teams)} groups"))
    # In a thread: ten thousand users take it a second, in which others are answered.
    done = await asyncio.to_thread(plan, realm, wanted, people, teams, await _present(rooms, realm))
    for line in done.warnings:
        task.warn(line)
    for words, subjects, act in _steps(rooms, done):
        for subject in subjects:
            task.log(f"{'would ' if dry_run else ''}{words} '{subject}'")
        if not dry_run:
            await _each(task, subjects, act)
    task.log("nothing was changed: this was a dry run" if dry_run else "done")


def _steps(rooms: Rooms, done: SyncPlan) -> list[_Step]:
    """What to do, in an order in which a group is there before its members are put into it."""
    access = rooms.access

    async def change(userid: str) -> None:
        await access.users.update(userid, done.changes[userid])

    async def strip(subject: str) -> None:
        await access.grants.forget(subject=subject)

    return [
        ("add group", done.new_groups, access.groups.create),
        ("add user", list(done.new_users), lambda userid: access.users.create(done.new_users[userid])),
        ("change user", list(done.changes), change),
        ("remove user", done.drop_users, access.delete_user),
        ("remove group", done.drop_groups, access.delete_group),
        ("remove grants of", done.strip, strip),
    ]


async def _each(task: Task, subjects: Sequence[str], act: Callable[[str], Awaitable[None]]) -> None:
    """Do it for each; one that fails (somebody else was faster) is a warning and holds up no other."""

    async def one(subject: str) -> None:
        try:
            await act(subject)
        except BastideError as error:
            task.warn(f"'{subject}': {error}")

    for at in range(0, len(subjects), _AT_ONCE):
        await asyncio.gather(*(one(subject) for subject in subjects[at : at + _AT_ONCE]))


async def _present(rooms: Rooms, realm: Realm) -> Present:
    access = rooms.access
    users = {user.userid: user for user in await access.users.list() if realm_of(user.userid) == realm.realm}
    groups = frozenset(group.groupid for group in await access.groups.list())
    return Present(users, groups, frozenset(other.realm for other in await access.realms.list()))
