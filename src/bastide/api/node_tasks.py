"""`/nodes/{node}/tasks`: what runs, what ran, and its log."""

from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from pydantic import Field
from starlette.responses import Response, StreamingResponse

from bastide.api.allowed import Watched
from bastide.api.answers import Answer
from bastide.api.fields import NodePath, TaskPath, UpidText
from bastide.api.lists import index, task_row, task_rows
from bastide.api.routing import Branch, Call
from bastide.api.shapes_nodes import LogLine, TaskNews, TaskRow, TaskStatus
from bastide.base.errors import InvalidParameter, PermissionDenied
from bastide.model.record import Record
from bastide.model.task import TaskRecord
from bastide.model.types import Vmid, split_list
from bastide.tasks.filters import TaskFilter

_OUTCOMES = frozenset({"ok", "error", "warning", "unknown"})
_MAX_LINES = 100_000

_LONGEST_WAIT = 30.0

branch = Branch("/nodes/{node}/tasks")
own = Branch("/bastide/tasks")


class TasksQuery(NodePath):
    """Which tasks."""

    errors: bool | None = None
    limit: Annotated[int | None, Field(ge=0, le=2**31)] = None
    since: Annotated[int | None, Field(ge=-(2**62), le=2**62)] = None
    source: Literal["archive", "active", "all"] | None = None
    start: Annotated[int | None, Field(ge=0, le=2**31)] = None
    statusfilter: Annotated[str | None, Field(max_length=256)] = None
    typefilter: Annotated[str | None, Field(max_length=128)] = None
    until: Annotated[int | None, Field(ge=-(2**62), le=2**62)] = None
    userfilter: Annotated[str | None, Field(max_length=128)] = None
    vmid: Vmid | None = None


class LogQuery(TaskPath):
    """Which lines of a task's log; `download` answers the whole log as a text file."""

    download: bool | None = None
    limit: Annotated[int | None, Field(ge=0, le=2**31)] = None
    start: Annotated[int | None, Field(ge=0, le=2**31)] = None


class NewsQuery(Record):
    """Wait at most `wait` seconds: for the task's end, or with `start` for its log to have more lines than these."""

    upid: UpidText
    start: Annotated[int | None, Field(ge=0, le=2**31)] = None
    wait: Annotated[float, Field(ge=0, le=_LONGEST_WAIT)] = _LONGEST_WAIT


@branch.get("", TasksQuery, user="all", answer=list[TaskRow])
async def list_tasks(call: Call, p: TasksQuery) -> Answer:
    """Tasks, newest first: all with Sys.Audit on the node, else one's own."""
    wanted = frozenset(split_list(p.statusfilter or ""))
    if wanted - _OUTCOMES:
        raise InvalidParameter({"statusfilter": f"unknown status '{min(wanted - _OUTCOMES)[:40]}'"})
    audit = await call.may(f"/nodes/{call.rooms.node}", "Sys.Audit")
    task_filter = TaskFilter(
        vmid=p.vmid,
        typefilter=p.typefilter,
        userfilter=p.userfilter,
        statusfilter=wanted,
        since=p.since,
        until=p.until,
        errors=bool(p.errors),
        source=p.source or "archive",
        owner=None if audit else str(call.identity),
    )
    records, total = await call.rooms.tasks.page(task_filter, p.start or 0, 50 if p.limit is None else p.limit)
    return Answer(task_rows(records), {"total": total})


@branch.get("/{upid}", TaskPath, user="all")
async def read_index(_call: Call, _p: TaskPath) -> list[dict[str, str]]:
    """Task index."""
    return index("name", "log", "status")


@branch.get("/{upid}/status", TaskPath, user="all", answer=TaskStatus)
async def read_status(call: Call, p: TaskPath) -> dict[str, Any]:
    """Whether a task runs, and how it ended."""
    return _status(await _seen(call, p.upid, "Sys.Audit"))


@branch.get("/{upid}/log", LogQuery, user="all", answer=list[LogLine])
async def read_log(call: Call, p: LogQuery) -> Any:
    """A task's log, line by line; with `limit=0` to its end."""
    await _seen(call, p.upid, "Sys.Audit")
    if p.download:
        return await _download(call, p)
    limit = 50 if p.limit is None else p.limit or _MAX_LINES
    lines, total = await call.rooms.tasks.log(p.upid, p.start or 0, limit)
    return Answer([{"n": line.n, "t": line.t} for line in lines] or [{"n": 1, "t": "no content"}], {"total": total})


@own.get("/{upid}", NewsQuery, user="all", answer=TaskNews)
async def read_news(call: Call, p: NewsQuery) -> dict[str, Any]:
    """Wait for a task: how it stands, as `status` tells it, and with `start` its `log` from there on.

    Answers when there is something to tell, or after `wait` seconds. The log comes in parts: a client asks again from
    the last line it has, until the status is `stopped` and no line comes any more.
    """
    await _seen(call, p.upid, "Sys.Audit")
    record, lines = await call.rooms.tasks.news(p.upid, p.start, p.wait)
    await _seen(call, p.upid, "Sys.Audit")  # it may have been taken away while this waited
    news = _status(record)
    return news if p.start is None else {**news, "log": [{"n": line.n, "t": line.t} for line in lines]}


@branch.delete("/{upid}", TaskPath, user="all")
async def stop_task(call: Call, p: TaskPath) -> None:
    """Stop a task."""
    record = await _seen(call, p.upid, "Sys.Modify")
    await call.rooms.tasks.stop(record.upid)


def _status(record: TaskRecord) -> dict[str, Any]:
    row = task_row(record)
    row.pop("endtime", None)
    status = row.pop("status", None)
    if status is None:
        return {**row, "status": "running"}
    return {**row, "status": "stopped", "exitstatus": status}


async def _seen(call: Call, upid: str, privilege: str) -> TaskRecord:
    """The task, if it is the caller's own or the caller has the privilege on the node."""
    record = await call.rooms.tasks.get(upid)
    own = record.upid.user in (str(call.identity), call.identity.userid) and call.identity.token is None
    own = own or record.upid.user == str(call.identity)
    if not own and not await call.may(f"/nodes/{call.rooms.node}", privilege):
        raise PermissionDenied(f"Permission check failed (/nodes/{call.rooms.node}, {privilege})")
    return record


async def _download(call: Call, p: LogQuery) -> Response:
    if p.start is not None or p.limit is not None:
        raise InvalidParameter({"download": "start and limit do not go with download"})
    lines, _ = await call.rooms.tasks.log(p.upid, 0, _MAX_LINES)

    async def text() -> AsyncIterator[bytes]:
        for line in lines:
            yield f"{line.t}\n".encode()

    headers = {"content-disposition": 'attachment; filename="task.log"'}
    answer = StreamingResponse(text(), media_type="text/plain; charset=utf-8", headers=headers)
    return Watched(call, lambda: _seen(call, p.upid, "Sys.Audit"), answer)
