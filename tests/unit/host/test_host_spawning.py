import asyncio
import gc
import os
import time
from asyncio.subprocess import DEVNULL, PIPE

import pytest
import uvloop

from bastide.host import processes, spawning


@pytest.fixture(params=["asyncio", "uvloop"])
def go(request):
    """Runs a coroutine under each of the loops."""
    factory = uvloop.new_event_loop if request.param == "uvloop" else None

    def run_it(work):
        with asyncio.Runner(loop_factory=factory) as runner:
            return runner.run(asyncio.wait_for(work, 20))

    return run_it


ALL = {"stdin": PIPE, "stdout": PIPE, "stderr": PIPE}


def test_much_goes_through_and_the_code_comes_back(go) -> None:
    data = os.urandom(3_000_000)

    async def story():
        process = await spawning.start(["sh", "-c", "cat; echo done >&2; exit 5"], **ALL)
        out, err = await process.communicate(data)
        return out == data, err, process.returncode, await process.wait()

    assert go(story()) == (True, b"done\n", 5, 5)


def test_a_hundred_that_end_at_once_lose_nothing(go) -> None:
    async def one(number: int):
        process = await spawning.start(["echo", str(number)], stdin=DEVNULL, stdout=PIPE, stderr=PIPE)
        out, _ = await process.communicate()
        return int(out), process.returncode

    async def story():
        return await asyncio.gather(*(one(number) for number in range(100)))

    assert go(story()) == [(number, 0) for number in range(100)]


def test_a_signal_is_a_negative_code_and_a_dead_process_takes_none(go) -> None:
    async def story():
        process = await spawning.start(["sleep", "300"])
        process.terminate()
        assert await process.wait() == -15
        with pytest.raises(ProcessLookupError):
            process.kill()

    go(story())


def test_waiting_does_not_wait_for_who_holds_the_pipes(go) -> None:
    async def story():
        begin = time.monotonic()
        process = await spawning.start(["sh", "-c", "sleep 5 & exit 3"], **ALL)
        assert await process.wait() == 3
        assert time.monotonic() - begin < 3
        vars(process)["_transport"].close()

    go(story())


async def feed(stream: asyncio.StreamWriter) -> None:
    while True:
        stream.write(bytes(65536))
        await stream.drain()


def test_writing_to_a_process_that_closed_its_input_fails(go) -> None:
    async def story():
        process = await spawning.start(["sh", "-c", "exec <&-; sleep 0.3"], **ALL)
        assert process.stdin is not None
        with pytest.raises((BrokenPipeError, ConnectionResetError, RuntimeError)):
            await feed(process.stdin)
        await process.wait()

    go(story())


def test_a_reader_that_does_not_read_stops_the_process(go) -> None:
    async def story():
        process = await spawning.start(["yes"], stdin=DEVNULL, stdout=PIPE)
        await asyncio.sleep(0.3)
        assert process.stdout is not None
        held = len(process.stdout._buffer)
        process.kill()
        await process.wait()
        return held

    assert go(story()) < 300_000


def test_what_is_not_installed_is_told_at_once(go) -> None:
    async def story():
        with pytest.raises(FileNotFoundError):
            await spawning.start(["/no/such/program"])

    go(story())


def test_no_descriptor_and_no_zombie_is_left(go) -> None:
    async def story():
        async def once():
            process = await spawning.start(["true"], **ALL)
            await process.communicate()

        await once()
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(20):
            await once()
        return len(os.listdir("/proc/self/fd")) - before

    assert go(story()) <= 0
    states = [processes.stat(pid) for pid in processes.children(os.getpid())]
    assert [state for state in states if state is not None and state.state == "Z"] == []


def test_a_descriptor_that_is_used_again_is_left_alone(go) -> None:
    async def story():
        for _ in range(50):
            process = await spawning.start(["true"], **ALL)
            opened = [os.open("/dev/null", os.O_RDONLY) for _ in range(8)]
            await process.communicate()
            opened += [os.open("/dev/null", os.O_RDONLY) for _ in range(8)]
            del process
            gc.collect()
            for fd in opened:
                os.close(fd)  # raises when somebody else closed it

    go(story())
