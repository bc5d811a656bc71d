"""What running a guest costs, read from trees like /proc and from real files; the ends that guests are measured by."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bastide.base.errors import HostFailure, NotSupported
from bastide.host import measure, run
from bastide.host.cgroups import Cgroups

pytestmark = pytest.mark.anyio

SMAPS = "55d0-7ffe ---p 00000000 00:00 0 [rollup]\nRss:  9000 kB\nPss:  {} kB\nPss_Dirty: 10 kB\n"


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    folder = tmp_path / "proc/42"
    (folder / "attr").mkdir(parents=True)
    (folder / "smaps_rollup").write_text(SMAPS.format(1234))
    (folder / "status").write_text("Name:\tqemu\nUid:\t7\t7\t7\t7\n")
    (folder / "uid_map").write_text("0 0 4294967295\n")
    (folder / "attr/current").write_text("unconfined\n")
    return tmp_path / "proc"


def test_proportional_memory(proc: Path) -> None:
    assert measure.proportional_memory(42, proc) == 1234 * 1024
    assert measure.proportional_memory(43, proc) is None
    own = measure.proportional_memory(os.getpid())
    assert own is not None
    assert own > 2**20


def test_memory_of_the_kernel_in_both_versions(proc: Path, tmp_path: Path) -> None:
    group = tmp_path / "memory/bastide/42"
    group.mkdir(parents=True)
    (group / "memory.kmem.usage_in_bytes").write_text("4096\n")
    (proc / "42/cgroup").write_text("5:cpu:/other\n3:memory,x:/bastide/42\n0::/elsewhere\n")
    assert measure.kernel_memory(42, proc, Cgroups(1, None, {"memory": tmp_path / "memory"})) == 4096
    unified = tmp_path / "unified"
    (unified / "elsewhere").mkdir(parents=True)
    stat = unified / "elsewhere/memory.stat"
    stat.write_text("anon 1\nkernel_stack 100\npagetables 20\nslab 3\n")
    assert measure.kernel_memory(42, proc, Cgroups(2, unified)) == 123
    stat.write_text("anon 1\nkernel 777\nslab 3\n")
    assert measure.kernel_memory(42, proc, Cgroups(2, unified)) == 777
    assert measure.kernel_memory(43, proc, Cgroups(2, unified)) == 0


def test_what_is_allocated_are_blocks_not_lengths(tmp_path: Path) -> None:
    sparse = tmp_path / "folder/sparse"
    sparse.parent.mkdir()
    with sparse.open("wb") as file:
        file.truncate(1 << 30)
    assert measure.allocated(sparse) < 2**20
    (tmp_path / "folder/full").write_bytes(os.urandom(300_000))
    os.sync()
    assert 300_000 <= measure.allocated(tmp_path / "folder") < 2**20
    os.symlink("/usr", tmp_path / "folder/link")
    assert measure.allocated(tmp_path / "folder") < 2**20
    assert measure.allocated(tmp_path / "nothing") == 0


def test_facts_of_a_process(proc: Path) -> None:
    status, uid_map, label = measure.process_facts(42, proc)
    assert "qemu" in status
    assert uid_map == "0 0 4294967295"
    assert label == "unconfined"
    with pytest.raises(HostFailure):
        measure.process_facts(43, proc)


async def test_everybody_who_connects_gets_the_bytes() -> None:
    async def feed() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield bytes(10_000)

    async with measure.serving("127.0.0.1", feed) as port:
        for _ in range(2):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            assert len(await reader.read(-1)) == 1_000_000
            writer.close()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes nobody")
async def test_an_iperf_server_is_nobodys_and_ends() -> None:
    async with measure.iperf_server("127.0.0.1") as port:
        argv = ["iperf3", "-J", "-c", "127.0.0.1", "-p", str(port), "-n", "1M"]
        assert '"sum_received"' in (await run.run(argv, deadline=30)).text
        owners = [
            row.split()[7]
            for row in Path("/proc/net/tcp").read_text().splitlines()
            if row.split()[1] == f"0100007F:{port:04X}" and row.split()[3] == "0A"
        ]
        assert owners == ["65534"]
    with socket.socket() as probe, pytest.raises(ConnectionRefusedError):
        probe.connect(("127.0.0.1", port))


async def test_a_tool_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "PATH", "/nowhere")
    assert not measure.has_tool("sh")
    with pytest.raises(NotSupported):
        await measure.native(["no-such-program-here"], 5)


async def test_no_iperf_server_without_iperf(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "setpriv").symlink_to("/usr/bin/setpriv")
    monkeypatch.setattr(measure.run, "PATH", str(tmp_path))
    with pytest.raises(NotSupported):
        async with measure.iperf_server("127.0.0.1"):
            pass
