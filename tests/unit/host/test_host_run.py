"""The process gate: real pipes, deadlines that kill, a fixed environment, failures that name their cause."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

from bastide.base.errors import DeadlineExceeded, NotSupported, RunError
from bastide.host.run import environment, run, spawn

pytestmark = pytest.mark.anyio


async def test_input_is_a_pipe_that_can_be_opened_again() -> None:
    data = os.urandom(300_000)
    assert (await run(["sh", "-c", "cat /dev/stdin"], input=data)).stdout == data


async def test_a_process_gets_the_umask_asked_for() -> None:
    process = await spawn(["sh", "-c", "umask"], stdout=PIPE, umask=0o157)
    assert (await process.communicate())[0] == b"0157\n"


async def test_a_process_that_closes_its_input_is_no_error() -> None:
    assert (await run(["sh", "-c", "exec <&-; sleep 0.1; echo done"], input=bytes(1_000_000))).text == "done\n"


async def test_a_failure_names_program_code_and_last_words() -> None:
    with pytest.raises(RunError, match="sh failed with exit code 3: the cause") as caught:
        await run(["sh", "-c", "echo first >&2; echo the cause >&2; exit 3"])
    assert caught.value.code == 3
    assert (await run(["false"], check=False)).code == 1


async def test_a_deadline_kills_the_whole_group() -> None:
    began = time.monotonic()
    with pytest.raises(DeadlineExceeded, match=r"0\.2 seconds"):
        await run(["sh", "-c", "sleep 300 & sleep 300"], deadline=0.2)
    assert time.monotonic() - began < 5


async def test_cancelling_kills() -> None:
    task = asyncio.create_task(run(["sh", "-c", "echo $$; exec sleep 300"]))
    await asyncio.sleep(0.2)
    task.cancel()
    began = time.monotonic()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - began < 5


async def test_nothing_of_our_environment_reaches_a_child(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "x")
    seen = dict(line.split("=", 1) for line in (await run(["env"], env={"A": "b"})).text.splitlines())
    assert seen == environment({"A": "b"})
    assert "SECRET" not in seen


async def test_a_missing_program_is_a_sentence_and_leaks_nothing() -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        with pytest.raises(NotSupported, match="no-such-program is not installed"):
            await run(["no-such-program"], input=b"x")
    assert len(os.listdir("/proc/self/fd")) == before


async def test_a_stream_can_be_fed_piece_by_piece() -> None:
    process = await spawn(["cat"], stdin=PIPE, stdout=PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"one ")
    await process.stdin.drain()
    assert await process.stdout.readexactly(4) == b"one "
    process.stdin.close()
    assert await process.stdout.read() == b""
    assert await process.wait() == 0


_LEAVING = """
import asyncio, gc, os, sys
sys.path[:0] = [sys.argv[1]]
from bastide.host import run, threads

async def main():
    threads.watch_children_without_threads()
    print((await run.spawn(["sleep", "300"])).pid, flush=True)

asyncio.run(main())
gc.collect()
os._exit(0)
"""


def test_what_was_started_outlives_the_loop_and_the_process() -> None:
    """Without `_keep` this fails, and a daemon would end its VMs with itself: asyncio kills what it collects."""
    source = str(Path(__file__).parents[3] / "src")
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", _LEAVING, source], capture_output=True, check=True)
    pid = int(done.stdout)
    try:
        assert Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"sleep")
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
