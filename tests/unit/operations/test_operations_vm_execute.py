"""Commands in a VM by its agent, delivered in the frames of `exec`."""

import asyncio
import os

import pytest

from bastide.base.errors import DeadlineExceeded, HostFailure, NotSupported, WrongState
from bastide.guest.protocol import Command, Terminal
from bastide.model.guest import GuestState
from bastide.operations.execute import END, ERRORS, EXIT, INPUT, OUTPUT, command_of
from bastide.operations.vm import execute
from framework.guest_agent import VM, GuestAgent, rooms_with

pytestmark = pytest.mark.anyio


class Client:
    """A channel in memory: its frames, then silence until it is `gone`."""

    def __init__(self, *sends: bytes) -> None:
        self.sends, self.frames, self.gone = list(sends), [], asyncio.Event()

    async def receive(self) -> bytes | None:
        if self.sends:
            return self.sends.pop(0)
        await self.gone.wait()
        return None

    async def send(self, frame: bytes) -> None:
        if self.gone.is_set():
            raise ConnectionResetError
        self.frames.append(frame)

    def of(self, stream: int) -> bytes:
        return b"".join(frame[1:] for frame in self.frames if frame[0] == stream)


@pytest.fixture
def agent():
    made = GuestAgent()
    yield made
    made.close()


async def joined(agent: GuestAgent, client: Client, *argv: str, **options) -> int | None:
    command = await execute.execute(rooms_with(agent), VM, command_of(argv, **options), None)
    return await asyncio.wait_for(command.join(client), 20)


async def test_streams_are_apart_and_the_exit_code_is_last(agent) -> None:
    client = Client(bytes([END]))
    assert await joined(agent, client, "sh", "-c", "echo out; echo err >&2; exit 7") == 7
    assert (client.of(OUTPUT), client.of(ERRORS)) == (b"out\n", b"err\n")
    assert client.frames[-1] == bytes([EXIT]) + b"7"


async def test_all_of_the_input_reaches_the_command(agent) -> None:
    data = os.urandom(600_000)
    client = Client(*(bytes([INPUT]) + data[at : at + 65536] for at in range(0, len(data), 65536)), bytes([END]))
    assert await joined(agent, client, "sh", "-c", "wc -c | tr -d ' \n'; exit 3") == 3
    assert client.of(OUTPUT) == b"600000"


async def test_too_much_input_is_refused_before_anything_runs(agent, monkeypatch) -> None:
    monkeypatch.setattr(execute, "INPUT_LIMIT", 1000)
    with pytest.raises(NotSupported, match="push a file"):
        await joined(agent, Client(bytes([INPUT]) + bytes(1001), bytes([END])), "true")
    assert "guest-exec" not in agent.asked


async def test_a_signal_is_128_and_its_number(agent) -> None:
    assert await joined(agent, Client(bytes([END])), "sh", "-c", "kill -9 $$") == 137


async def test_folder_and_environment_by_env(agent, tmp_path) -> None:
    client = Client(bytes([END]))
    options = {"env": ["A=b c", "B==x"], "cwd": str(tmp_path)}
    assert await joined(agent, client, "sh", "-c", 'pwd; echo "$A|$B|$LANG"', **options) == 0
    assert client.of(OUTPUT).decode() == f"{tmp_path}\nb c|=x|C.UTF-8\n"


@pytest.mark.parametrize(
    ("command", "argv"),
    [
        (command_of(["uname", "-r"]), ["uname", "-r"]),
        (command_of(["a"], [], "/srv"), ["/usr/bin/env", "-C", "/srv", "LANG=C.UTF-8", "a"]),
        (command_of(["a", "-x"], ["K=v w"]), ["/usr/bin/env", "LANG=C.UTF-8", "K=v w", "a", "-x"]),
        (Command(["a=b"], {"K": "v"}), ["/usr/bin/env", "K=v", "/bin/sh", "-c", 'exec "$@"', "sh", "a=b"]),
    ],
)
async def test_argv(command, argv) -> None:
    assert execute.argv_of(command) == argv


async def test_a_client_that_goes_ends_the_command(agent) -> None:
    client = Client(bytes([END]))
    running = asyncio.create_task(joined(agent, client, "sleep", "300"))
    while not agent.processes:
        await asyncio.sleep(0.01)
    sleeper = next(iter(agent.processes.values()))
    client.gone.set()
    assert await running is None
    assert await asyncio.to_thread(sleeper.wait, 5) == -9


async def test_a_client_that_goes_before_the_end_of_its_input_runs_nothing(agent) -> None:
    client = Client(bytes([INPUT]) + b"half")
    client.gone.set()
    assert await joined(agent, client, "true") is None
    assert "guest-exec" not in agent.asked


async def test_one_that_waits_for_input_is_told_so(agent, monkeypatch) -> None:
    monkeypatch.setattr(execute, "_INPUT_PATIENCE", 0.05)
    client = Client()
    running = asyncio.create_task(joined(agent, client, "true"))
    while not client.frames:
        await asyncio.sleep(0.01)
    assert b"exec -n" in client.of(ERRORS)
    client.gone.set()
    assert await running is None


async def test_a_terminal_is_refused_with_what_to_do(agent) -> None:
    with pytest.raises(NotSupported, match="console"):
        await execute.execute(rooms_with(agent), VM, command_of(["sh"]), Terminal())


@pytest.mark.parametrize(
    ("state", "text"), [(GuestState.STOPPED, "start it first"), (GuestState.PAUSED, "resume it first")]
)
async def test_a_vm_that_does_not_run_is_told(agent, state, text) -> None:
    with pytest.raises(WrongState, match=text):
        await execute.execute(rooms_with(agent, state), VM, command_of(["true"]), None)
    assert agent.asked == []


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (WrongState("QEMU guest agent is not running"), "qemu-guest-agent is installed"),
        (DeadlineExceeded("the guest agent of VM 100 did not answer within 5 seconds"), "wait until it has booted"),
        (WrongState("No QEMU guest agent configured"), "set agent=1"),
    ],
)
async def test_without_an_agent_it_says_what_to_do(agent, error, text) -> None:
    agent.failures["guest-ping"] = error
    with pytest.raises(WrongState, match=text):
        await execute.execute(rooms_with(agent), VM, command_of(["true"]), None)


@pytest.mark.parametrize("answer", [5, [], {"exited": True, "exitcode": "x"}, {"exited": True, "out-data": "A"}])
async def test_a_hostile_answer_is_a_failure_of_the_guest(agent, answer) -> None:
    agent.answers |= {"guest-exec": {"pid": 1}, "guest-exec-status": answer}
    with pytest.raises(HostFailure, match="guest agent"):
        await joined(agent, Client(bytes([END])), "true")


@pytest.mark.parametrize("answer", [5, [], {}, {"pid": "x"}])
async def test_a_process_without_an_id_is_a_failure_of_the_guest(agent, answer) -> None:
    agent.answers |= {"guest-exec": answer}
    with pytest.raises(HostFailure, match="guest agent"):
        await joined(agent, Client(bytes([END])), "true")


async def test_cut_output_is_told(agent) -> None:
    agent.answers |= {"guest-exec": {"pid": 1}}
    agent.answers["guest-exec-status"] = {"exited": True, "exitcode": 0, "out-data": "eA==", "out-truncated": True}
    client = Client(bytes([END]))
    assert await joined(agent, client, "true") == 0
    assert client.of(OUTPUT) == b"x"
    assert b"is cut" in client.of(ERRORS)
