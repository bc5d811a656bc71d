"""What has changed, as names alone, and who may be told of it. Pure.

A key of the store says of what it tells; for what a list shows beside, such as the volumes on a storage, the end of a
task does.
"""

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from bastide.access.authority import Authority
from bastide.base.ids import Upid
from bastide.model.access import Identity
from bastide.state.store import Change

EVERYTHING = frozenset({"guests", "tasks", "storage", "nodes", "pools", "jobs", "access", "architect"})
"""Every topic: what somebody is told whose rights have changed."""

_MANY = 500
_SEE_STORAGE = ("Datastore.Audit", "Datastore.AllocateSpace")
# Tasks that leave the volumes on storages, and the host's disks, as they were.
_LEAVES_VOLUMES = re.compile(
    r"(vz|qm)(start|stop|shutdown|reboot|reset|pause|resume|config)|startall|stopall|install|(term|vnc|spice)proxy"
)
_CHANGES_DISKS = re.compile(r"(dir|lvm|lvmthin|zfs)(create|remove)|diskinit|wipedisk")
_OF_GUEST = re.compile(r"(guest|lock/guest|cloudinit)/(?P<vmid>[0-9]+)")
_VMID = re.compile(r'"vmid": ?([0-9]+)')
_JOBS = ("backupjob", "verifyjob", "restoretestjob", "scheduled", "restoretest")
_ACCESS = ("user", "group", "role", "token", "grant", "pool")


@dataclass(slots=True)
class News:
    """What one listener is told: guests, tasks (UPIDs), and topics of which anything may have changed."""

    guests: set[int] = field(default_factory=set)
    tasks: set[str] = field(default_factory=set)
    topics: set[str] = field(default_factory=set)

    def __bool__(self) -> bool:
        return bool(self.guests or self.tasks or self.topics)

    def add(self, other: "News") -> None:
        """Take in later news. Of very many the topic alone is kept, so that who reads slowly costs little."""
        self.guests |= other.guests
        self.tasks |= other.tasks
        self.topics |= other.topics
        if len(self.guests) > _MANY:
            self.topics.add("guests")
        if len(self.tasks) > _MANY:
            self.topics.add("tasks")
        if "guests" in self.topics:
            self.guests.clear()
        if "tasks" in self.topics:
            self.tasks.clear()

    def to_json(self) -> str:
        """As it is sent: what is empty is left out."""
        parts = {"guests": sorted(self.guests), "tasks": sorted(self.tasks), "topics": sorted(self.topics)}
        return json.dumps({name: names for name, names in parts.items() if names}, separators=(",", ":"))


@dataclass(slots=True)
class Batch:
    """What has changed since the last batch, for nobody in particular."""

    guests: set[int] = field(default_factory=set)
    tasks: set[str] = field(default_factory=set)
    storages: set[str] = field(default_factory=set)
    pools: set[str] = field(default_factory=set)
    planned: set[int] = field(default_factory=set)
    marks: set[str] = field(default_factory=set)
    """Any of `volumes`, `disks`, `settings`, `jobs`, `plans`, `rights`."""

    def __bool__(self) -> bool:
        return bool(self.guests or self.tasks or self.storages or self.pools or self.marks)

    def note(self, change: Change) -> None:
        """Take in a change of the store."""
        branch, _, rest = change.key.partition("/")
        found = _OF_GUEST.fullmatch(change.key)
        if found is not None:
            self.guests.add(int(found["vmid"]))
        elif branch == "task":
            self._note_task(rest, change.value)
        elif branch == "storage":
            self.storages.add(rest)
        elif branch in _JOBS:
            self.marks.add("jobs")
        elif branch == "verified":
            self.storages.add(rest.partition(":")[0])
        elif branch in ("plan", "comparison"):
            self.marks.add("plans")
            self.planned.update(int(vmid) for vmid in _VMID.findall(change.value or ""))
        elif branch in ("setting", "disk"):
            self.marks.add("settings")
        elif branch in _ACCESS:
            self.marks.add("rights")
            if branch == "pool":
                self.pools.add(rest)

    def _note_task(self, upid: str, value: str | None) -> None:
        if value is None:  # forgotten for its age
            return
        self.tasks.add(upid)
        kind = Upid.parse(upid).type
        if json.loads(value)["endtime"] is not None:
            if not _LEAVES_VOLUMES.fullmatch(kind):
                self.marks.add("volumes")
            if _CHANGES_DISKS.fullmatch(kind):
                self.marks.add("disks")

    def seen_by(self, identity: Identity, authority: Authority, node: str, storages: Iterable[str]) -> News:
        """What a caller may know of it; `storages` are the names of all."""

        def may(path: str, *privileges: str) -> bool:
            return authority.allows(identity, path, privileges, any=True)

        host = may(f"/nodes/{node}", "Sys.Audit")
        whole = may("/", "Sys.Audit")
        touched = self.storages if "volumes" not in self.marks else {*self.storages, *storages}
        pools = any(may(f"/pool/{name}", "Pool.Audit") for name in self.pools)
        told = {
            "storage": any(may(f"/storage/{name}", *_SEE_STORAGE) for name in touched),
            "pools": pools,
            "guests": pools,
            "nodes": host and not self.marks.isdisjoint({"settings", "disks"}),
            "jobs": whole and "jobs" in self.marks,
            "architect": "plans" in self.marks and (whole or self._any_seen(self.planned, may)),
            "access": "rights" in self.marks and may("/access", "Sys.Audit"),
        }
        return News(
            guests={vmid for vmid in self.guests if may(f"/vms/{vmid}", "VM.Audit")},
            tasks={upid for upid in self.tasks if host or _own(identity, upid)},
            topics={topic for topic, wanted in told.items() if wanted},
        )

    @staticmethod
    def _any_seen(vmids: Iterable[int], may: Callable[..., bool]) -> bool:
        return any(may(f"/vms/{vmid}", "VM.Audit") for vmid in vmids)


def rights(identity: Identity, authority: Authority, pools: Iterable[tuple[str, int]]) -> object:
    """Something that is equal as long as a caller's rights are; `pools` are all pools' ids and revisions."""
    if authority.is_root(identity):
        return "everything"
    subjects = {str(identity), identity.userid}
    groups = {name for name, members in authority.groups.items() if identity.userid in members}
    grants = [
        grant
        for grant in authority.grants
        if (grant.subject in groups if grant.kind == "group" else grant.subject in subjects)
    ]
    roles = {grant.role: authority.roles.get(grant.role) for grant in grants}
    own = [(name, revision) for name, revision in pools if authority.permissions(identity, f"/pool/{name}")]
    return grants, roles, own, authority.tokens.get(str(identity))


def _own(identity: Identity, upid: str) -> bool:
    user = Upid.parse(upid).user
    return user == str(identity) or (identity.token is None and user.partition("!")[0] == identity.userid)
