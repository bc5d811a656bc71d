"""Files into a VM and out of it by its agent."""

import os
from collections.abc import AsyncIterator

import pytest

from bastide.base.errors import BastideError, HostFailure, InvalidParameter, NotFound, WrongState
from bastide.operations.files import Writing
from bastide.operations.vm import files
from bastide.operations.vm.files import read_file, write_file
from framework.guest_agent import VM, GuestAgent, rooms_with

pytestmark = [pytest.mark.anyio, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]


@pytest.fixture
def agent():
    made = GuestAgent()
    yield made
    assert made.files == {}, "a file was left open in the guest"
    made.close()


async def chunks(*parts: bytes, error: BastideError | None = None) -> AsyncIterator[bytes]:
    for part in parts:
        yield part
    if error is not None:
        raise error


async def content(agent: GuestAgent, path: str) -> tuple[int | None, bytes]:
    async with read_file(rooms_with(agent), VM, path) as (facts, parts):
        return facts.size, b"".join([part async for part in parts])


async def test_what_was_written_is_read(agent, tmp_path) -> None:
    data = os.urandom(1_300_000)
    place = tmp_path / "a b'\"$(x)"
    facts = await write_file(rooms_with(agent), VM, str(place), chunks(data[:700_001], data[700_001:]), Writing())
    assert (facts.size, facts.mode, facts.uid, facts.gid) == (1_300_000, "0644", 0, 0)
    assert place.read_bytes() == data
    assert os.listdir(tmp_path) == [place.name]
    assert await content(agent, str(place)) == (1_300_000, data)


async def test_mode_and_owner_are_set_or_kept(agent, tmp_path) -> None:
    place = tmp_path / "f"
    facts = await write_file(rooms_with(agent), VM, str(place), chunks(b"x"), Writing(mode=0o4750, uid=33, gid=34))
    assert (facts.mode, facts.uid, facts.gid) == ("4750", 33, 34)
    kept = await write_file(rooms_with(agent), VM, str(place), chunks(b"y"), Writing())
    found = place.stat()
    assert (found.st_mode & 0o7777, found.st_uid, found.st_gid, place.read_text()) == (0o4750, 33, 34, "y")
    assert (kept.mode, kept.uid) == ("4750", 33)


async def test_the_new_file_is_for_root_alone_until_it_is_whole(agent, tmp_path) -> None:
    seen = []

    async def looking() -> AsyncIterator[bytes]:
        yield b"secret"
        seen.extend(path.stat().st_mode & 0o777 for path in tmp_path.iterdir())

    await write_file(rooms_with(agent), VM, str(tmp_path / "f"), looking(), Writing(mode=0o644))
    assert seen == [0o600]


async def test_a_link_is_followed_in_the_guest(agent, tmp_path) -> None:
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to("real")
    await write_file(rooms_with(agent), VM, str(tmp_path / "link"), chunks(b"new"), Writing())
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "new"


async def test_a_broken_off_transfer_leaves_what_was_there(agent, tmp_path) -> None:
    (tmp_path / "f").write_text("before")
    with pytest.raises(WrongState, match="went"):
        await write_file(
            rooms_with(agent), VM, str(tmp_path / "f"), chunks(b"x" * 10, error=WrongState("it went")), Writing()
        )
    assert os.listdir(tmp_path) == ["f"]
    assert (tmp_path / "f").read_text() == "before"


async def test_what_cannot_be_written_is_told(agent, tmp_path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for place, error, text in (
        (tmp_path / "none/f", NotFound, "folder of .* does not exist"),
        (tmp_path, HostFailure, "is a folder"),
        (tmp_path / "fifo", HostFailure, "not a plain file"),
    ):
        with pytest.raises(error, match=text):
            await write_file(rooms_with(agent), VM, str(place), chunks(b"x"), Writing())


async def test_what_cannot_be_read_is_told(agent, tmp_path) -> None:
    with pytest.raises(NotFound, match="does not exist"):
        await content(agent, str(tmp_path / "none"))
    with pytest.raises(InvalidParameter):
        await content(agent, "relative")


async def test_a_file_whose_end_tells_nothing_is_read_to_its_end(agent) -> None:
    size, data = await content(agent, "/proc/version")
    assert size is None
    assert data.startswith(b"Linux version")


async def test_an_empty_file_is_empty(agent, tmp_path) -> None:
    (tmp_path / "f").touch()
    assert await content(agent, str(tmp_path / "f")) == (None, b"")


async def test_a_file_that_shrinks_is_a_failure(agent, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(files, "CHUNK", 10)
    (tmp_path / "f").write_bytes(bytes(100))
    async with read_file(rooms_with(agent), VM, str(tmp_path / "f")) as (_, parts):
        assert len(await anext(parts)) == 10
        os.truncate(tmp_path / "f", 20)
        await anext(parts)
        with pytest.raises(HostFailure, match="shorter"):
            await anext(parts)


async def test_in_windows_it_is_written_in_its_place(agent, tmp_path) -> None:
    agent.answers["guest-get-osinfo"] = {"id": "mswindows"}
    facts = await write_file(rooms_with(agent), VM, str(tmp_path / "f"), chunks(b"x"), Writing(mode=0o600))
    assert ((tmp_path / "f").read_text(), facts.size, facts.mode) == ("x", 1, None)
    assert "guest-exec" not in agent.asked


@pytest.mark.parametrize(("command", "answer"), [("file-open", "x"), ("file-read", {"buf-b64": "A"})])
async def test_a_hostile_answer_is_a_failure_of_the_guest(agent, tmp_path, command, answer) -> None:
    (tmp_path / "f").write_text("x")
    agent.answers[f"guest-{command}"] = answer
    with pytest.raises(HostFailure, match="guest agent"):
        await content(agent, str(tmp_path / "f"))


@pytest.mark.parametrize("count", [0, -1, 10**9])
async def test_a_lying_count_is_a_failure_of_the_guest(agent, tmp_path, count) -> None:
    agent.answers["guest-file-write"] = {"count": count}
    with pytest.raises(HostFailure, match="wrote"):
        await write_file(rooms_with(agent), VM, str(tmp_path / "f"), chunks(b"x"), Writing())
    assert os.listdir(tmp_path) == []
