"""The audit log: `/bastide/audit`, and the same in Proxmox VE's words as `/cluster/log`."""

import os
from typing import Annotated, Any, Literal

from pydantic import Field

from bastide.access.audit import AuditFilter
from bastide.api.answers import Answer
from bastide.api.routing import Branch, Call
from bastide.api.shapes_access import ClusterLogRow
from bastide.model.audit import AuditRow
from bastide.model.record import Record

branch = Branch("/bastide/audit")
cluster_log = Branch("/cluster/log")

_Moment = Annotated[int, Field(ge=0, le=2**53)]
_FAULT, _NOTICE = 4, 6
"""syslog(3)'s warning and informational, which Proxmox VE's log uses."""


class AuditQuery(Record):
    """Which records: `user` is a user with all their tokens, or one token; `path` a part of the path.

    `since` and `until` are seconds since the epoch, `after` the id of a record: only newer ones.
    """

    user: Annotated[str | None, Field(max_length=256)] = None
    path: Annotated[str | None, Field(max_length=512)] = None
    event: Literal["write", "login", "console", "read"] | None = None
    since: _Moment | None = None
    until: _Moment | None = None
    after: _Moment | None = None
    failed: bool = False
    start: Annotated[int, Field(ge=0, le=2**31)] = 0
    limit: Annotated[int, Field(ge=0, le=5000)] = 50


class ClusterLogQuery(Record):
    """At most so many lines."""

    max: Annotated[int, Field(ge=1, le=2**31)] = 50


@branch.get("", AuditQuery, check=("perm", "/", ("Sys.Audit",)), answer=list[AuditRow])
async def read_audit(call: Call, p: AuditQuery) -> Answer:
    """Who did what from where, and what came of it, newest first.

    Writes, logins, consoles that were opened, files read from guests and backups; also what was refused. `lost` beside
    the data is how many records could not be written since the daemon started.
    """
    wanted = AuditFilter(p.user, p.path, p.event, p.since, p.until, p.after, p.failed)
    return Answer(await call.services.audit.read(wanted, p.start, p.limit), {"lost": call.services.audit.lost})


@cluster_log.get("", ClusterLogQuery, user="all", answer=list[ClusterLogRow])
async def read_cluster_log(call: Call, p: ClusterLogQuery) -> list[dict[str, Any]]:
    """The audit log in Proxmox VE's form, newest first: all of it with Sys.Syslog on /, else one's own lines."""
    wanted = AuditFilter() if await call.may("/", "Sys.Syslog") else AuditFilter(user=call.identity.userid)
    rows = await call.services.audit.read(wanted, 0, min(p.max, 5000))
    return [_line(call, row) for row in rows]


def _line(call: Call, row: AuditRow) -> dict[str, Any]:
    failed = not 100 <= row["status"] < 400
    what = [row.get("method", ""), row.get("path", ""), f"from {row.get('address', '')}:", str(row["status"])]
    return {
        "uid": str(row["id"]),
        "time": int(row["time"]),
        "pri": _FAULT if failed else _NOTICE,
        "tag": "bastide",
        "pid": os.getpid(),
        "node": call.rooms.node,
        "user": row["user"],
        "msg": " ".join([*what, row.get("error") or row.get("upid", "")]).strip(),
    }
