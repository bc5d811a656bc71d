"""Following a task: its log as it is written, a progress line on a terminal, its end as an error of the tree."""

import re
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from bastide.base.errors import BastideError, HostFailure
from bastide.base.ids import Upid
from bastide.cli import output
from bastide.cli.session import Session
from bastide.client.errors import TaskFailed, Unreachable, from_text
from bastide.client.http import segment

_PATIENCE = 0.4  # seconds until a line is drawn: what is quicker leaves no trace
_PERCENT = re.compile(r"\b(\d{1,3}(?:\.\d+)?)\s?%")
_LEADING_PERCENT = re.compile(r"^\s*\d{1,3}%\s*")  # the bar says it
_FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_FRAME = 0.1  # seconds until the line moves
_LONGEST_WAIT = 20
_LOG_PAGE = 500


class TaskEnd:
    """How a task ended: `OK`, or `WARNINGS: n`."""

    def __init__(self, upid: str, status: str) -> None:
        self.upid = upid
        self.status = status


def task_path(upid: str) -> str:
    """A task's branch of the API. Raises InvalidParameter when the text is no UPID."""
    return f"/nodes/{Upid.parse(upid).node}/tasks/{segment(upid)}"


def follow(session: Session, upid: str, title: str, *, leave: bool = True) -> TaskEnd:
    """Wait for a task and show what it does; its failure is raised as the error its end status stands for.

    On a terminal a line tells `title`, the time and the log's last line. An interrupt leaves the task running, which
    is told unless the caller is going to stop it (`leave` is false).
    """
    lines: list[str] = []
    with ProgressLine(title) as progress:

        def seen(text: str) -> None:
            lines.append(text)
            progress.log(text)

        try:
            status = watch(session, upid, seen, progress.tick)
        except KeyboardInterrupt:
            progress.clear()
            if leave:
                output.note(f"the task goes on: bastide task log -f{session.root_option} '{upid}'")
            raise
    raise_for(status, lines)
    return TaskEnd(upid, status)


def watch(session: Session, upid: str, seen: Callable[[str], None], tick: Callable[[], None]) -> str:
    """Call `seen` with every line of a task's log as it comes and `tick` in between; returns the end status."""
    client, path = session.client(), f"/bastide/tasks/{segment(str(Upid.parse(upid)))}"
    start = 0
    while True:
        tick()
        news: dict[str, Any] = client.get(path, start=start, wait=_FRAME if sys.stderr.isatty() else _LONGEST_WAIT)
        for entry in news["log"]:
            start = max(start, entry["n"])
            seen(str(entry["t"]))
        if news["status"] != "running" and len(news["log"]) < _LOG_PAGE:
            return str(news.get("exitstatus") or "unexpected status")


def _new_lines(session: Session, path: str, start: int, seen: Callable[[str], None]) -> int:
    while True:
        page = session.client().get(f"{path}/log", start=start, limit=_LOG_PAGE)
        for entry in page:
            if entry["n"] > start:  # an empty log answers one line without a number of its own
                seen(str(entry["t"]))
        start = max([start, *(entry["n"] for entry in page)])
        if len(page) < _LOG_PAGE:
            return start


def read_log(session: Session, upid: str, seen: Callable[[str], None]) -> None:
    """Call `seen` with every line that a task's log holds now."""
    _new_lines(session, task_path(upid), 0, seen)


def raise_for(status: str, lines: list[str]) -> None:
    """Raise the error of a failed task's end status."""
    if status == "OK":
        return
    if status.startswith("WARNINGS"):
        for text in lines:
            if text.lower().startswith(("warn", "wrn")):
                output.note(text)
        return
    error = from_text(status) or TaskFailed(status)
    raise error


class ProgressLine:
    """One line on standard error that tells what is being done, for how long and how far. Nothing when no terminal."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.shown = False
        self.enabled = sys.stderr.isatty()
        self.detail = ""
        self.share: float | None = None
        self._began = time.monotonic()

    def log(self, text: str) -> None:
        """Take a line of the log; its percentage moves the bar."""
        found = _PERCENT.findall(text)
        self.share = min(float(found[-1]), 100.0) / 100 if found else None
        self.detail = _LEADING_PERCENT.sub("", text)
        self.tick()

    def tick(self) -> None:
        """Draw the line anew."""
        elapsed = time.monotonic() - self._began
        if not self.enabled or elapsed < _PATIENCE:
            return
        import shutil  # noqa: PLC0415 - only drawing needs it

        width = shutil.get_terminal_size().columns - 1
        frame = _FRAMES[int(elapsed * 10) % len(_FRAMES)]
        bar = "" if self.share is None else f" {_bar(self.share)} {self.share:4.0%}"
        plain = f" {frame} {self.title}{bar} {_clock(elapsed)} "
        detail = output.clean(self.detail)[: max(0, width - len(plain))]
        text = f" \033[36m{frame}\033[0m \033[1m{self.title}\033[0m{bar} {_clock(elapsed)} \033[2m{detail}\033[0m"
        sys.stderr.write(f"\r\033[K{text}")
        sys.stderr.flush()
        self.shown = True

    def clear(self) -> None:
        """Remove the line."""
        if self.shown:
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()
            self.shown = False

    def __enter__(self) -> "ProgressLine":
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()


def counted(chunks: Iterator[bytes], size: int | None, line: ProgressLine) -> Iterator[bytes]:
    """The same chunks; the line tells how many bytes have passed, and of how many where that is known."""
    done = 0
    for chunk in chunks:
        done += len(chunk)
        line.share = min(1.0, done / size) if size else None
        line.detail = output.size(done)
        line.tick()
        yield chunk


def _bar(share: float) -> str:
    full = round(share * 20)
    return f"\033[36m{'━' * full}\033[0;2m{'━' * (20 - full)}\033[0m"


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def finish(session: Session, answer: Any, title: str, *, no_wait: bool = False) -> str | None:
    """The task that an answer names, after its end unless `no_wait`; None when it names none."""
    if not isinstance(answer, str) or not answer.startswith("UPID:"):
        return None
    if not no_wait:
        follow(session, answer, title)
    return answer


def cancel(session: Session, upid: str, deadline: float = 30) -> None:
    """Stop a task and wait until it has undone its work. Raises HostFailure when it does not end."""
    path, until = task_path(upid), time.monotonic() + deadline
    try:
        session.client().delete(path)
    except Unreachable:
        raise
    except BastideError:
        pass  # it has ended meanwhile
    while time.monotonic() < until:
        if session.client().get(f"{path}/status").get("status") != "running":
            return
        time.sleep(0.05)
    raise HostFailure(f"the task {upid} does not end")
