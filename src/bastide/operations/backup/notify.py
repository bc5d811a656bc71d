"""Who is told how a backup went: mails, and a webhook of ours. What fails here is a warning and fails no backup."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from bastide.base.errors import BastideError, NotFound
from bastide.base.units import readable
from bastide.host import outbox
from bastide.model.backup_options import BackupOptions
from bastide.model.guest import Kind
from bastide.model.types import split_list
from bastide.operations.rooms import Rooms
from bastide.tasks.tasks import Task


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the backup of one guest went: what it is called, its bytes, seconds, and why it failed if it did."""

    vmid: int
    kind: Kind | None
    name: str
    backup: str | None = None
    size: int = 0
    seconds: float = 0.0
    error: str | None = None


async def notify(
    rooms: Rooms, options: BackupOptions, outcomes: Sequence[Outcome], task: Task, *, job: str | None, began: float
) -> None:
    """Tell those whom the options name. `job` is the id of the job that it was, `began` in seconds since the epoch."""
    failed = sum(outcome.error is not None for outcome in outcomes)
    if options.mailto and (failed or options.mailnotification == "always"):
        try:
            to = await _addresses(rooms, options.mailto, task)
            if to:
                state = "backup failed" if failed else "backup successful"
                await outbox.send_mail(to, f"vzdump backup status ({rooms.node}): {state}", _text(outcomes))
                task.log(f"sent mail to {', '.join(to)}")
        except BastideError as error:
            task.warn(f"nobody got a mail: {error}")
    if options.webhook is not None:
        content = {
            "type": "vzdump",
            "node": rooms.node,
            "upid": str(task.upid),
            "job": job,
            "status": "error" if failed else "ok",
            "began": int(began),
            "seconds": round(time.time() - began, 3),
            "guests": [asdict(outcome) for outcome in outcomes],
        }
        try:
            await outbox.post_json(options.webhook, content)
            task.log("told the webhook")
        except BastideError as error:
            task.warn(f"the webhook was not told: {error}")


async def _addresses(rooms: Rooms, text: str, task: Task) -> list[str]:
    """Addresses of what is one or a user."""
    found = []
    for name in split_list(text):
        try:
            user = await rooms.access.users.get(name)
        except NotFound:
            found.append(name)
            continue
        if user.email:
            found.append(user.email)
        elif name.startswith("root@"):
            found.append("root")
        else:
            task.warn(f"user '{name}' has no email address")
    return found


def _text(outcomes: Sequence[Outcome]) -> str:
    rows = [("VMID", "NAME", "STATUS", "TIME", "SIZE", "BACKUP")]
    for outcome in outcomes:
        minutes, seconds = divmod(int(outcome.seconds), 60)
        rows.append(
            (
                str(outcome.vmid),
                outcome.name,
                "failed" if outcome.error else "ok",
                f"{minutes // 60:02d}:{minutes % 60:02d}:{seconds:02d}",
                readable(outcome.size) if outcome.size else "-",
                outcome.error or outcome.backup or "",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines) + "\n"
