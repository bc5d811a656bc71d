"""Daemons that are there at once: forked from a process that has loaded the program already.

To load it takes longer than all else that a daemon does at its start, which tests that start dozens pay each time.
What a daemon draws by lot when it is loaded, to know its own leftovers from others', is drawn anew for each.
"""

import contextlib
import functools
import json
import os
import runpy
import secrets
import select
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

_REPOSITORY = Path(__file__).resolve().parents[2]
_MODULE = "bastide.daemon.__main__"


class Born:
    """A forked process, with what `subprocess.Popen` has of one; its exit code is not known here (0)."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._descriptor = os.pidfd_open(pid)

    def poll(self) -> int | None:
        """None while it lives."""
        return 0 if select.select([self._descriptor], [], [], 0)[0] else None

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end. Raises subprocess.TimeoutExpired."""
        if not select.select([self._descriptor], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired(_MODULE, timeout or 0)
        return 0

    def send_signal(self, number: int) -> None:
        """Send a signal; one that has ended is fine."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._descriptor, number)

    def terminate(self) -> None:
        """SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def __del__(self) -> None:
        os.close(self._descriptor)


class Nursery:
    """The process that daemons are forked from; it ends with this one."""

    def __init__(self) -> None:
        environment = {**os.environ, "PYTHONPATH": f"{_REPOSITORY / 'src'}:{_REPOSITORY / 'tests'}"}
        self._process = subprocess.Popen(
            [sys.executable, "-c", "from framework.nursery import main; main()"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True,
        )  # fmt: skip

    def daemon(self, arguments: Sequence[str], environment: Mapping[str, str], log: Path) -> Born:
        """Start a daemon with these arguments, whose output goes to the end of a file."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        wish = {"arguments": [*arguments], "environment": dict(environment), "log": str(log)}
        print(json.dumps(wish), file=self._process.stdin, flush=True)
        return Born(int(self._process.stdout.readline()))


@functools.cache
def nursery() -> Nursery:
    """The one of this process."""
    return Nursery()


def main() -> None:
    """Be the process that daemons are forked from, until standard input ends."""
    drawn = _load()
    for line in sys.stdin:
        # The last one's number stayed taken until now, so that nobody else could be killed in its place.
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        pid = os.fork()
        if pid == 0:
            _become_daemon(json.loads(line), drawn)
        print(pid, flush=True)


def _load() -> set[str]:
    """Load the program; returns the tokens that it has drawn meanwhile."""
    drawn: set[str] = set()
    draw = secrets.token_hex

    def remembering(count: int | None = None) -> str:
        token = draw(count)
        drawn.add(token)
        return token

    with mock.patch.object(secrets, "token_hex", remembering):
        runpy.run_module(_MODULE, run_name="loaded")
    return drawn


def _become_daemon(wish: Mapping[str, Any], drawn: set[str]) -> None:
    code = 1
    try:
        os.setsid()
        log = os.open(wish["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for descriptor, place in ((nothing, 0), (log, 1), (log, 2)):
            os.dup2(descriptor, place)
        os.closerange(3, 64)
        os.environ.clear()
        os.environ.update(wish["environment"])
        _draw_anew(drawn)
        sys.argv = [_MODULE, *wish["arguments"]]
        runpy.run_module(_MODULE, run_name="__main__")
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        sys.stderr.flush()
        os._exit(code)


def _draw_anew(drawn: set[str]) -> None:
    fresh = {token: secrets.token_hex(len(token) // 2) for token in drawn}
    for module in [module for name, module in sys.modules.items() if name.startswith("bastide.")]:
        for name, value in vars(module).items():
            if isinstance(value, str) and value in fresh:
                setattr(module, name, fresh[value])
