import asyncio
import itertools
import os
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bastide.base.errors import AuthenticationFailed, DeadlineExceeded, WrongState
from bastide.guest.protocol import Terminal
from bastide.host import run
from bastide.model.access import ROOT, Identity
from bastide.model.guest import Guest, GuestState
from bastide.operations import console
from bastide.operations.console import Consoles
from bastide.operations.terminal_stream import TerminalStream

pytestmark = pytest.mark.anyio

GUEST = Guest(100, "lxc", "n", {})
OTHER = Identity("joe@pve")

messages = st.lists(
    st.one_of(
        st.binary(max_size=40).map(lambda data: (b"0:%d:" % len(data) + data, [b"\x00" + data])),
        st.tuples(st.integers(0, 999999), st.integers(0, 999999)).map(
            lambda size: (b"1:%d:%d:" % size, [b"\x01%d:%d" % size])
        ),
        st.just((b"2", [])),
    ),
    max_size=8,
)


@given(messages, st.lists(st.integers(0, 400), max_size=10))
def test_the_stream_may_be_cut_anywhere(parts, cuts) -> None:
    whole = b"".join(text for text, _ in parts)
    edges = sorted({0, len(whole), *(cut for cut in cuts if cut < len(whole))})
    stream = TerminalStream()
    frames = [f for a, b in itertools.pairwise(edges) for f in stream.feed(whole[a:b])]
    assert frames == [frame for _, expected in parts for frame in expected]


@given(st.binary(max_size=200))
def test_nonsense_is_refused_or_waited_for_within_bounds(data) -> None:
    stream = TerminalStream()
    try:
        stream.feed(data)
    except ValueError:
        return
    assert len(stream._buffer) <= len(data)


@pytest.mark.parametrize("data", [b"3", b"0:99999999:", b"0:70000:", b"0:-1:", b"0::", b"1:a:b:", b"0x", b"0:1234567"])
def test_a_faulty_stream_is_refused(data) -> None:
    with pytest.raises(ValueError, match=r"stream|long"):
        TerminalStream().feed(data)


class Channel:
    def __init__(self, *sends: bytes) -> None:
        self.inbox: asyncio.Queue[bytes | None] = asyncio.Queue()
        for frame in sends:
            self.inbox.put_nowait(frame)
        self.received = b""
        self.news = asyncio.Event()

    async def receive(self) -> bytes | None:
        return await self.inbox.get()

    async def send(self, frame: bytes) -> None:
        self.received += frame
        self.news.set()

    async def until(self, text: bytes) -> None:
        async with asyncio.timeout(10):
            while text not in self.received:
                self.news.clear()
                await self.news.wait()


class Tasks:
    """Runs the work; `ends` are the tasks."""

    def __init__(self) -> None:
        self.works: list[asyncio.Task[None]] = []

    async def start(self, kind, what, by, work):
        assert (kind, what) == ("vncproxy", "100")
        self.works.append(asyncio.create_task(work(SimpleNamespace(log=lambda line: None))))
        return "UPID:"


class Containers:
    def __init__(self) -> None:
        self.opened: list[tuple[int, int]] = []
        self.init = 4711

    def init_pid(self, vmid):
        return self.init

    def state(self, vmid):
        return GuestState.RUNNING

    async def console(self, vmid, tty, terminal):
        self.opened.append((vmid, tty))
        master, slave = os.openpty()
        process = await run.spawn(["cat"], stdin=slave, stdout=slave, stderr=slave)
        os.close(slave)
        return process, master


@pytest.fixture
def rooms():
    containers = Containers()
    return SimpleNamespace(containers=containers, engine=lambda _guest: containers, tasks=Tasks())


async def test_an_offer_is_for_its_guest_user_and_port_and_for_one_client(rooms) -> None:
    consoles = Consoles()
    offer, _ = await consoles.offer(rooms, GUEST, ROOT)
    assert offer.port in range(5900, 6000)
    for vmid, user, port in ((101, "root@pam", offer.port), (100, "joe@pve", offer.port), (100, "root@pam", 5999)):
        with pytest.raises(AuthenticationFailed):
            consoles.take(vmid, user, port)
    assert consoles.take(100, "root@pam", offer.port) is offer
    with pytest.raises(AuthenticationFailed):
        consoles.take(100, "root@pam", offer.port)
    second, _ = await consoles.offer(rooms, GUEST, OTHER)
    assert second.port != offer.port
    for work in rooms.tasks.works:
        work.cancel()


async def test_a_terminal_echoes_and_ends_with_its_client(rooms) -> None:
    consoles = Consoles()
    offer, _ = await consoles.offer(rooms, GUEST, ROOT)
    consoles.take(100, "root@pam", offer.port)
    channel = Channel(b"root@pam:TICKET\n1:120:40:", b"0:3:hi\n", b"2")
    serving = asyncio.create_task(consoles.serve(rooms, GUEST, offer, channel, "TICKET"))
    await channel.until(b"hi\r\nhi\r\n")
    assert channel.received.startswith(b"OK")
    channel.inbox.put_nowait(None)
    await serving
    await asyncio.wait_for(rooms.tasks.works[0], 5)
    assert rooms.containers.opened == [(100, 1)]


async def test_who_does_not_say_the_ticket_sees_nothing(rooms) -> None:
    consoles = Consoles()
    for line in (b"root@pam:OTHER\n", b"joe@pve:TICKET\n", b"x" * 5000, b"no line"):
        offer, _ = await consoles.offer(rooms, GUEST, ROOT)
        channel = Channel(line)
        channel.inbox.put_nowait(None)
        with pytest.raises(AuthenticationFailed):
            await consoles.serve(rooms, GUEST, offer, channel, "TICKET")
        assert channel.received == b""
        assert offer.closed.is_set()
    assert rooms.containers.opened == []
    for work in rooms.tasks.works:
        work.cancel()


async def test_stopping_the_task_closes_the_terminal(rooms) -> None:
    consoles = Consoles()
    offer, _ = await consoles.offer(rooms, GUEST, ROOT)
    consoles.take(100, "root@pam", offer.port)
    channel = Channel(b"root@pam:T\n")
    serving = asyncio.create_task(consoles.serve(rooms, GUEST, offer, channel, "T"))
    await channel.until(b"OK")
    rooms.tasks.works[0].cancel()
    await asyncio.wait_for(serving, 5)


async def test_an_offer_is_not_for_the_next_run_of_the_guest(rooms) -> None:
    consoles = Consoles()
    offer, _ = await consoles.offer(rooms, GUEST, ROOT)
    consoles.take(100, "root@pam", offer.port)
    rooms.containers.init = 4712
    with pytest.raises(WrongState):
        await consoles.serve(rooms, GUEST, offer, Channel(b"root@pam:T\n"), "T")
    assert rooms.containers.opened == []


async def test_an_offer_that_nobody_takes_ends(rooms, monkeypatch) -> None:
    monkeypatch.setattr(console, "WAIT", 0.05)
    consoles = Consoles()
    offer, _ = await consoles.offer(rooms, GUEST, ROOT)
    with pytest.raises(DeadlineExceeded):
        await rooms.tasks.works[0]
    with pytest.raises(AuthenticationFailed):
        consoles.take(100, "root@pam", offer.port)


@pytest.mark.parametrize(
    ("config", "tty", "opened"),
    [({}, None, 1), ({"cmode": "console"}, None, 0), ({"tty": 0}, None, 0), ({}, 2, 2), ({}, 0, 0)],
)
async def test_cmode_chooses_the_terminal(rooms, config, tty, opened) -> None:
    async with Consoles().open(rooms, Guest(100, "lxc", "n", config), tty, Terminal()):
        assert rooms.containers.opened == [(100, opened)]


async def test_two_clients_get_two_terminals(rooms) -> None:
    consoles = Consoles()
    async with consoles.open(rooms, GUEST, None, Terminal()), consoles.open(rooms, GUEST, None, Terminal()):
        assert rooms.containers.opened == [(100, 1), (100, 2)]
    async with consoles.open(rooms, GUEST, None, Terminal()):
        assert rooms.containers.opened[-1] == (100, 1)


@pytest.mark.parametrize(("config", "tty"), [({"console": 0}, 0), ({"tty": 1}, 2)])
async def test_a_terminal_that_is_not_there_is_refused(rooms, config, tty) -> None:
    with pytest.raises(WrongState):
        async with Consoles().open(rooms, Guest(100, "lxc", "n", config), tty, Terminal()):
            pass
