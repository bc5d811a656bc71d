"""A FUSE file system of the tests, served by a process of its own until the end."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from framework.patience import PATIENCE


@contextlib.contextmanager
def served(program: str, behind: Path, folder: Path, control: Path, release: Callable[[], None]) -> Iterator[None]:
    """Run the file `program` with these three paths until `folder`, which is made, is mounted.

    `release` is called before the end, so that nothing waits for an answer.
    """
    folder.mkdir()
    behind.mkdir()
    where = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    argv = [sys.executable, program, str(behind), str(folder), str(control)]
    server = subprocess.Popen(argv, stdin=subprocess.DEVNULL, start_new_session=True, env=where)
    try:
        deadline = time.monotonic() + 20 * PATIENCE
        while not os.path.ismount(folder):
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("no FUSE file system: standard error tells why")
            time.sleep(0.02)
        yield
    finally:
        release()
        subprocess.run(["umount", "--lazy", folder], check=False, stderr=subprocess.DEVNULL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(timeout=5)
        if server.poll() is None:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()
