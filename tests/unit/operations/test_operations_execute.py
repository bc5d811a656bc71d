import asyncio
import os
import sys
import time
from types import SimpleNamespace

import pytest

from bastide.base.errors import InvalidParameter, WrongState
from bastide.guest.protocol import Terminal
from bastide.host import processes, run
from bastide.host.attached import Descriptor, kill_tree
from bastide.model.guest import Guest, GuestState
from bastide.operations import execute
from bastide.operations.execute import END, ERRORS, EXIT, INPUT, OUTPUT, RESIZE, Session, command_of

PIPES = {"stdin": asyncio.subprocess.PIPE, "stdout": asyncio.subprocess.PIPE, "stderr": asyncio.subprocess.PIPE}


class Client:
    """A channel in memory. `sends` are the client's frames; it is gone after them only if `leaves`."""

    def __init__(self, *sends: bytes, leaves: bool = False) -> None:
        self.sends = list(sends)
        self.leaves = leaves
        self.gone = asyncio.Event()
        self.frames: list[bytes] = []
        self.reading = asyncio.Event()
        self.reading.set()

    async def receive(self) -> bytes | None:
        if self.sends:
            return self.sends.pop(0)
        if not self.leaves:
            await self.gone.wait()
        return None

    async def send(self, frame: bytes) -> None:
        await self.reading.wait()
        if self.gone.is_set():
            raise ConnectionResetError
        self.frames.append(frame)

    def of(self, stream: int) -> bytes:
        return b"".join(frame[1:] for frame in self.frames if frame[0] == stream)


def go(work):
    """Run a coroutine to its end, within 20 seconds."""
    return asyncio.run(asyncio.wait_for(work, 20))


async def joined(client: Client, *argv: str) -> int | None:
    return await execute.join(Session(await run.spawn(argv, **PIPES)), client)


def test_streams_are_apart_and_the_exit_code_is_last() -> None:
    async def story():
        client = Client()
        assert await joined(client, "sh", "-c", "echo out; echo err >&2; exit 7") == 7
        return client

    client = go(story())
    assert (client.of(OUTPUT), client.of(ERRORS)) == (b"out\n", b"err\n")
    assert client.frames[-1] == bytes([EXIT]) + b"7"


def test_a_signal_is_128_and_its_number() -> None:
    async def story():
        return await joined(Client(), "sh", "-c", "kill -9 $$")

    assert go(story()) == 137


def test_much_goes_both_ways_intact() -> None:
    data = os.urandom(5_000_000)

    async def story():
        frames = [bytes([INPUT]) + data[i : i + 100_000] for i in range(0, len(data), 100_000)]
        client = Client(*frames, bytes([END]))
        assert await joined(client, "cat") == 0
        return client

    assert go(story()).of(OUTPUT) == data


def test_a_client_that_goes_ends_the_command_and_its_children(tmp_path) -> None:
    async def story():
        script = f"sleep 300 & echo $! > {tmp_path}/child; wait"
        client = Client()
        session = Session(await run.spawn(["sh", "-c", script], **PIPES))
        copying = asyncio.create_task(execute.join(session, client))
        while not (tmp_path / "child").exists() or not (tmp_path / "child").read_text():
            await asyncio.sleep(0.01)
        client.gone.set()
        assert await copying is None
        child = int((tmp_path / "child").read_text())
        for _ in range(100):
            if processes.started(child) is None:
                return
            await asyncio.sleep(0.02)
        raise AssertionError("the child lives")

    go(story())


def test_a_background_process_does_not_hold_the_exit_code_back() -> None:
    async def story():
        client = Client()
        begin = time.monotonic()
        assert await joined(client, "sh", "-c", "sleep 5 & echo done") == 0
        assert time.monotonic() - begin < 3
        assert client.of(OUTPUT) == b"done\n"

    go(story())


def test_a_client_that_does_not_read_stops_the_command() -> None:
    async def story():
        client = Client()
        client.reading.clear()
        script = (
            "import os,sys\nn=0\nos.set_blocking(1,True)\nwhile True:\n n+=os.write(1,b'x'*4096); sys.stderr.write('')"
        )
        process = await run.spawn([sys.executable, "-c", script], **PIPES)
        copying = asyncio.create_task(execute.join(Session(process), client))
        await asyncio.sleep(0.5)
        waiting = len(process.stdout._buffer) if process.stdout else 0
        client.gone.set()
        client.reading.set()
        await copying
        return waiting

    assert go(story()) < 512 * 1024


def test_a_command_that_does_not_read_stops_the_client() -> None:
    async def story():
        client = Client(*[bytes([INPUT]) + bytes(65536)] * 200)
        copying = asyncio.create_task(joined(client, "sleep", "300"))
        await asyncio.sleep(0.3)
        left = len(client.sends)
        copying.cancel()
        await asyncio.gather(copying, return_exceptions=True)
        return left

    assert go(story()) > 180


def test_input_after_the_command_closed_it_is_dropped() -> None:
    async def story():
        client = Client(*[bytes([INPUT]) + bytes(65536)] * 50)
        return await joined(client, "sh", "-c", "exec <&-; sleep 0.3; echo ok")

    assert go(story()) == 0


def test_a_terminal_has_a_size_and_follows_it() -> None:
    async def story():
        master, slave = os.openpty()
        script = "stty size; trap 'stty size; exit 3' WINCH; read x; sleep 5"
        process = await run.spawn(
            ["setsid", "-c", "sh", "-c", script], stdin=slave, stdout=slave, stderr=slave, new_session=True
        )
        os.close(slave)
        session = Session(process, Descriptor(master))
        session.resize(100, 30)
        client = Client(bytes([RESIZE]) + b"nonsense", bytes([RESIZE]) + b"120:40", b"\x00\n")
        code = await execute.join(session, client)
        return code, client.of(OUTPUT)

    code, output = go(story())
    assert code == 3 or b"40 120" in output


def test_a_silent_client_is_sounded_out(monkeypatch) -> None:
    monkeypatch.setattr(execute, "HEARTBEAT", 0.1)

    async def story():
        client = Client(*[bytes([INPUT]) + bytes(65536)] * 50)
        client.gone.set()  # it is gone, but its frames still wait to be read: only sending tells
        return await joined(client, "sleep", "300")

    assert go(story()) is None


def test_kill_tree_leaves_an_ended_process_alone() -> None:
    async def story():
        process = await run.spawn(["true"])
        await process.wait()
        kill_tree(process)

    go(story())


@pytest.mark.parametrize(
    ("argv", "env", "cwd", "named"),
    [
        ([], [], None, "command"),
        ([""], [], None, "command"),
        (["a\0b"], [], None, "command"),
        (["a"], ["=x"], None, "env"),
        (["a"], ["A B=x"], None, "env"),
        (["a"], ["1A=x"], None, "env"),
        (["a"], ["NOVALUE"], None, "env"),
        (["a"], [], "relative", "cwd"),
    ],
)
def test_a_faulty_command_is_named(argv, env, cwd, named) -> None:
    with pytest.raises(InvalidParameter) as caught:
        command_of(argv, env, cwd)
    assert named in caught.value.errors


def test_a_stopped_or_suspended_guest_runs_nothing() -> None:
    for state, word in ((GuestState.STOPPED, "not running"), (GuestState.PAUSED, "suspended")):
        rooms = SimpleNamespace(containers=SimpleNamespace(state=lambda vmid, state=state: state))
        with pytest.raises(WrongState, match=word):
            asyncio.run(execute.execute(rooms, Guest(100, "lxc", "n", {}), command_of(["true"]), Terminal()))
