"""Which programs a process and its children start, with all their arguments, by strace(1)."""

import ast
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from framework.patience import PATIENCE

# One array of C strings is one of Python's, escapes included; `-v` keeps it whole.
_CALL = re.compile(r'execve(?:at)?\((?:AT_FDCWD, |\d+, )?"(?:[^"\\]|\\.)*", (\[(?:"(?:[^"\\]|\\.)*"(?:, )?)*\])')


@contextmanager
def executed(pid: int) -> Iterator[list[list[str]]]:
    """The argument lists of all that a process and its children start meanwhile, filled in when the block ends.

    What failed to start counts, too. Raises AssertionError when strace cannot watch the process.
    """
    found: list[list[str]] = []
    with tempfile.TemporaryDirectory(prefix="bst-trace-", dir="/var/tmp") as folder:
        file = Path(folder, "calls")
        argv = ["strace", "-f", "-v", "-s", "65536", "-e", "trace=execve,execveat", "-e", "signal=none"]
        tracer = subprocess.Popen([*argv, "-o", str(file), "-p", str(pid)], stderr=subprocess.PIPE, text=True)
        try:
            _until_attached(tracer, pid)
            yield found
        finally:
            tracer.send_signal(signal.SIGINT)
            tracer.communicate(timeout=60 * PATIENCE)
        found += [ast.literal_eval(call[1]) for call in map(_CALL.search, file.read_text().splitlines()) if call]


def _until_attached(tracer: subprocess.Popen[str], pid: int) -> None:
    deadline = time.monotonic() + 30 * PATIENCE
    tasks = Path(f"/proc/{pid}/task")
    while time.monotonic() < deadline:
        assert tracer.poll() is None, tracer.communicate()[1]
        states = [(task / "status").read_text() for task in tasks.iterdir()]
        if all(f"TracerPid:\t{tracer.pid}\n" in state for state in states):
            return
        time.sleep(0.02)
    raise AssertionError("strace did not attach")
