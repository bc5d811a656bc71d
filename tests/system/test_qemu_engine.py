"""The VM engine alone, on real QEMU processes that run SeaBIOS or a boot sector."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bastide.base.errors import HostFailure, NotSupported, WrongState
from bastide.guest.qemu.engine import QemuEngine
from bastide.host import links
from bastide.model.guest import GuestState
from framework.groups import groups_of
from framework.vm_bench import VMID, Bench, Story, telling
from framework.vms import echo_disk, traces, writing_disk

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Callable[[Story], None]]:
    """Runs a test's story with a bench; afterwards nothing of it may be left."""
    with telling(tmp_path) as tell:
        yield tell


def status_of(pid: int) -> dict[str, str]:
    rows = (line.partition(":") for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {key: value.strip() for key, _, value in rows}


def namespace(pid: int | str, kind: str) -> str:
    return os.readlink(f"/proc/{pid}/ns/{kind}")


async def tool(*argv: str) -> None:
    await asyncio.to_thread(subprocess.run, argv, check=True)


def test_qemu_has_no_right_and_sees_nothing(live: Callable[[Story], None]) -> None:
    async def story(bench: Bench) -> None:
        plan = bench.plan({"tpmstate0": "local:x,version=v2.0"}, files={"tpmstate0": blank(bench.folder / "tpm", 4)})
        await bench.engine.start(plan)
        qemu = bench.engine.init_pid(VMID)
        assert qemu is not None
        members = {int(pid) for pid in group_file(bench, "cgroup.procs").read_text().split()}
        assert qemu in members
        assert len(members) == 2
        for pid in members:
            status = status_of(pid)
            assert status["Uid"].split() == status["Gid"].split() == [str(plan.uid)] * 4
            assert status["Groups"] in ("", str(plan.uid))
            assert {status[f"Cap{kind}"] for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {"0" * 16}
            assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
            assert namespace(pid, "mnt") != namespace("self", "mnt")
            root = Path(f"/proc/{pid}/root")
            assert sorted(os.listdir(root / "proc"))[-1] == "thread-self"
            assert not {"root", "home", "var", "run", "work", "opt"} & set(os.listdir(root))
            assert os.listdir(root / "etc") in ([], ["localtime"])
            assert str(bench.folder) not in Path(f"/proc/{pid}/cmdline").read_text()
        assert oct(bench.layout.runtime.joinpath("qemu", str(VMID)).stat().st_mode)[-3:] == "700"

    live(story)


def group_file(bench: Bench, name: str) -> Path:
    return next(iter(groups_of(bench.layout.instance, f"{VMID}/{name}")))


def blank(path: Path, mib: int) -> Path:
    with path.open("wb") as file:
        file.truncate(mib << 20)
    return path


def test_a_vm_outlives_its_daemon_and_is_found_again(live: Callable[[Story], None]) -> None:
    async def story(bench: Bench) -> None:
        script = (
            "import asyncio, sys, time\n"
            "sys.path[:0] = sys.argv[3:]\n"
            "from pathlib import Path\n"
            "from bastide.base.layout import Layout\n"
            "from bastide.guest.qemu.engine import QemuEngine\n"
            "from framework.vms import plan_vm\n"
            "async def main():\n"
            "    engine = QemuEngine(Layout(Path(sys.argv[1])))\n"
            "    await engine.prepare()\n"
            "    await engine.start(plan_vm(engine, int(sys.argv[2])))\n"
            "    print(engine.init_pid(int(sys.argv[2])), flush=True)\n"
            "    await asyncio.sleep(60)\n"
            "asyncio.run(main())\n"
        )
        paths = [str(Path(__file__).parents[2] / "src"), str(Path(__file__).parents[1])]
        daemon = await asyncio.create_subprocess_exec(
            sys.executable, "-c", script, str(bench.layout.root), str(VMID), *paths, stdout=subprocess.PIPE
        )
        assert daemon.stdout is not None
        pid = int(await daemon.stdout.readline())
        daemon.kill()
        await daemon.wait()
        engine = (await bench.another()).engine
        assert (engine.running(), engine.init_pid(VMID)) == (frozenset({VMID}), pid)
        async with asyncio.timeout(5):
            while (known := engine.known_status(VMID)) is None or known.state != "running":
                await asyncio.sleep(0.02)
        await engine.pause(VMID)
        await bench.told("STOP")
        assert engine.state(VMID) is GuestState.PAUSED
        os.kill(pid, signal.SIGKILL)
        await bench.told("GONE")
        assert engine.running() == frozenset()

    live(story)


def test_an_interrupted_start_is_ended_by_the_next_daemon(live: Callable[[Story], None]) -> None:
    async def story(bench: Bench) -> None:
        await bench.engine.start(bench.plan())
        pid = bench.engine.init_pid(VMID)
        assert pid is not None
        (bench.layout.runtime / "qemu" / str(VMID) / "vm.json").unlink()
        engine = (await bench.another()).engine
        assert (engine.running(), engine.ended()) == (frozenset(), frozenset({VMID}))
        async with asyncio.timeout(5):
            while Path(f"/proc/{pid}/exe").exists():
                await asyncio.sleep(0.02)
        await engine.start(bench.plan())

    live(story)


def test_a_qemu_that_hangs_hangs_alone(live: Callable[[Story], None]) -> None:
    async def story(bench: Bench) -> None:
        engine, other = bench.engine, VMID + 1
        await engine.start(bench.plan({"agent": "1"}))
        await engine.start(bench.plan(vmid=other))
        pid = engine.init_pid(VMID)
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        began = time.monotonic()
        asked = [asyncio.ensure_future(engine.status(VMID)) for _ in range(20)]
        healthy = await engine.status(other)
        assert healthy is not None
        assert (healthy.state, time.monotonic() - began < 1) == ("running", True)
        answers = await asyncio.gather(*asked)
        assert [answer and answer.state for answer in answers] == ["unknown"] * 20
        assert time.monotonic() - began < 2.5
        assert engine.state(VMID) is GuestState.RUNNING
        assert not await engine.agent_answers(VMID)
        again = (await bench.another()).engine
        unknown = await again.status(VMID)
        assert unknown is not None
        assert unknown.state == "unknown"
        os.kill(pid, signal.SIGCONT)
        async with asyncio.timeout(10):
            while (await again.status(VMID)).state != "running":  # type: ignore[union-attr]
                await asyncio.sleep(0.1)
        os.kill(pid, signal.SIGSTOP)
        await again.stop(VMID)
        assert again.running() == frozenset({other})

    live(story)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
def test_a_qemu_that_ends_is_noticed_and_leaves_nothing(live: Callable[[Story], None], number: signal.Signals) -> None:
    async def story(bench: Bench) -> None:
        tap = f"bt{os.getpid() % 100000}"
        options = {"net0": "virtio=52:54:00:00:00:01", "tpmstate0": "local:x,version=v2.0", "serial0": "socket"}
        files = {"tpmstate0": blank(bench.folder / "tpm", 4)}
        plan = bench.plan(options, files=files, taps={0: tap})
        for _ in range(2):
            await bench.engine.start(plan)
            assert links.exists(tap)
            pid = bench.engine.init_pid(VMID)
            assert pid is not None
            os.kill(pid, number)
            began = time.monotonic()
            await bench.told("GONE")
            assert time.monotonic() - began < 5
            assert bench.engine.state(VMID) is GuestState.STOPPED
            async with asyncio.timeout(10):
                while links.exists(tap) or groups_of(bench.layout.instance, str(VMID)):
                    await asyncio.sleep(0.02)
            assert not list((bench.layout.runtime / "qemu" / str(VMID)).glob("*.sock"))
            bench.events.clear()

    live(story)


def test_a_dead_tpm_is_told(live: Callable[[Story], None]) -> None:
    async def story(bench: Bench) -> None:
        files = {"tpmstate0": blank(bench.folder / "tpm", 4)}
        plan = bench.plan({"tpmstate0": "local:x,version=v2.0"}, files=files)
        await bench.engine.start(plan)
        qemu = bench.engine.init_pid(VMID)
        members = {int(pid) for pid in group_file(bench, "cgroup.procs").read_text().split()}
        (tpm,) = members - {qemu}
        os.kill(tpm, signal.SIGKILL)
        await bench.told("TPM_GONE")
        status = await bench.engine.status(VMID)
        assert status is not None
        assert status.error == "the TPM's process has ended"
        found = await (await bench.another()).engine.status(VMID)
        assert found is not None
        assert found.error == "the TPM's process has ended"
        await bench.engine.stop(VMID)
        await bench.engine.start(plan)
        fresh = await bench.engine.status(VMID)
        assert fresh is not None
        assert fresh.error is None

    live(story)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"args": "-device nonsense"}, "nonsense"),
        ({"args": "-drive file=/etc/shadow,format=raw"}, "/etc/shadow"),
        ({"affinity": "4000"}, "cpuset.cpus"),
    ],
)
def test_a_failed_start_says_why_and_is_undone(
    live: Callable[[Story], None], options: dict[str, str], said: str
) -> None:
    async def story(bench: Bench) -> None:
        tap = f"bt{os.getpid() % 100000}"
        files = {"tpmstate0": blank(bench.folder / "tpm", 4)}
        more = {"net0": "virtio=52:54:00:00:00:01", "tpmstate0": "local:x,version=v2.0"}
        with pytest.raises(HostFailure, match=said):
            await bench.engine.start(bench.plan({**more, **options}, files=files, taps={0: tap}))
        assert (bench.engine.running(), bench.engine.ended()) == (frozenset(), frozenset())
        assert not links.exists(tap)
        assert [left for left in traces(bench.layout) if not left.endswith(bench.layout.instance)] == []
        await bench.engine.start(bench.plan(more, files=files, taps={0: tap}))

    live(story)


def test_an_image_that_names_another_file_is_not_opened(live: Callable[[Story], None]) -> None:
    async def story(bench: Bench) -> None:
        canary = bench.folder / "canary"
        canary.write_bytes(b"secret".ljust(1 << 20))
        evil = bench.folder / "evil.qcow2"
        await tool("qemu-img", "create", "-q", "-f", "qcow2", "-b", str(canary), "-F", "raw", str(evil))
        link = bench.folder / "link.raw"
        link.symlink_to(canary)
        for path, form in ((evil, "qcow2"), (link, "raw"), (bench.folder, "raw")):
            plan = bench.plan({"scsi0": "local:x"}, files={"scsi0": path}, formats={"scsi0": form})
            with pytest.raises(HostFailure):
                await bench.engine.start(plan)
        raw = bench.folder / "evil.raw"
        raw.write_bytes(evil.read_bytes())
        await bench.engine.start(bench.plan({"scsi0": "local:x"}, files={"scsi0": raw}))
        nodes = await bench.engine.monitor(VMID, "info block -n")
        assert "qcow2" not in nodes
        assert "backing" not in nodes.lower()

    live(story)


def test_the_serial_port_has_one_client_at_a_time(live: Callable[[Story], None]) -> None:
    async def story(bench: Bench) -> None:
        files = {"scsi0": echo_disk(bench.folder / "echo.raw")}
        options = {"scsi0": "local:x", "scsihw": "virtio-scsi-pci", "serial0": "socket", "boot": "order=scsi0"}
        await bench.engine.start(bench.plan(options, files=files))
        loop = asyncio.get_running_loop()
        for _ in range(2):
            port = await bench.engine.serial(VMID, 0)
            with pytest.raises(WrongState, match="in use"):
                await bench.engine.serial(VMID, 0)
            heard = b""
            async with asyncio.timeout(20):
                while b"x" not in heard:
                    os.write(port, b"x")
                    await asyncio.sleep(0.2)
                    with contextlib.suppress(BlockingIOError):
                        heard = await loop.run_in_executor(None, os.read, port, 4096)
            os.close(port)
            await asyncio.sleep(0.2)

    live(story)


def test_a_full_disk_stops_the_guest_which_can_go_on(live: Callable[[Story], None]) -> None:
    async def story(bench: Bench) -> None:
        small = bench.folder / "small"
        small.mkdir()
        await tool("mount", "-t", "tmpfs", "-o", "size=6m", "none", str(small))
        try:
            files = {"scsi0": writing_disk(small / "disk.raw", 64 << 20)}
            options = {
                "scsi0": "local:x,cache=writeback,werror=enospc", "scsihw": "virtio-scsi-pci", "boot": "order=scsi0"
            }  # fmt: skip
            await bench.engine.start(bench.plan(options, files=files))
            data = await bench.told("BLOCK_IO_ERROR", 30)
            assert data["nospace"]
            status = await bench.engine.status(VMID)
            assert status is not None
            assert (status.state, bench.engine.state(VMID)) == ("io-error", GuestState.PAUSED)
            assert status.error == "scsi0 cannot be written: no space left on the storage"
            assert status.disks["scsi0"].written > 1 << 20
            found = await (await bench.another()).engine.status(VMID)
            assert found is not None
            assert found.state == "io-error"
            await tool("mount", "-o", "remount,size=80m", str(small))
            await bench.engine.resume(VMID)
            healthy = await bench.engine.status(VMID)
            assert healthy is not None
            assert (healthy.state, healthy.error) == ("running", None)
            await bench.engine.stop(VMID)
        finally:
            if bench.engine.running():
                await bench.engine.stop(VMID)
            await tool("umount", str(small))

    live(story)


def test_disks_come_and_go(live: Callable[[Story], None]) -> None:
    async def story(bench: Bench) -> None:
        engine = bench.engine
        files = {f"scsi{number}": blank(bench.folder / f"{number}.raw", 8) for number in range(3)}
        files["ide2"] = blank(bench.folder / "cd.iso", 1)
        base = {"scsihw": "virtio-scsi-single", "scsi0": "local:x", "ide2": "none,media=cdrom", "machine": "q35"}
        await engine.start(bench.plan(base, files={"scsi0": files["scsi0"]}))
        more = bench.plan({**base, "scsi1": "local:y,iothread=1,mbps=5,iops_rd=10"}, files=files)
        await engine.add_disk(more, "scsi1")
        assert "scsi1" in await engine.monitor(VMID, "info block")
        with pytest.raises(HostFailure):
            await engine.add_disk(more, "scsi1")
        await engine.resize_disk(VMID, "scsi1", 16 << 20)
        assert files["scsi1"].stat().st_size == 16 << 20
        await engine.change_disk_limits(bench.plan({**base, "scsi1": "local:y,mbps=9"}, files=files), "scsi1")
        assert "bps=9437184" in await engine.monitor(VMID, "info block")
        await engine.remove_disk(VMID, "scsi1")
        assert "scsi1" not in await engine.monitor(VMID, "info block -n")
        assert str(files["scsi1"]) not in open_files(engine)
        await engine.add_disk(more, "scsi1")
        full = bench.plan({**base, "ide2": "local:cd,media=cdrom"}, files=files)
        await engine.change_medium(full, "ide2")
        assert "drive-ide2" in await engine.monitor(VMID, "info block -n")
        await engine.change_medium(full, "ide2")
        await engine.change_medium(bench.plan(base, files={"scsi0": files["scsi0"]}), "ide2")
        assert "drive-ide2" not in await engine.monitor(VMID, "info block -n")

    live(story)


def open_files(engine: QemuEngine) -> set[str]:
    return {os.readlink(path) for path in Path(f"/proc/{engine.init_pid(VMID)}/fd").iterdir()}


async def devices(bench: Bench) -> list[str]:
    """Names of all nodes, devices, backends and threads."""
    tree = (await bench.engine.monitor(VMID, "info qtree")).splitlines()
    rest = [await bench.engine.monitor(VMID, f"info {what}") for what in ("block -n", "network", "iothreads")]
    return [line for line in tree if line.strip().startswith(("bus:", "dev:"))] + rest


def test_a_change_that_fails_leaves_nothing_behind(live: Callable[[Story], None]) -> None:
    async def story(bench: Bench) -> None:
        engine, tap = bench.engine, f"bt{os.getpid() % 100000}"
        await engine.start(bench.plan({"scsihw": "virtio-scsi-pci"}))
        before = await devices(bench)
        missing = bench.plan({"scsi1": "local:y"}, files={"scsi1": bench.folder / "absent.raw"})
        taken = bench.plan(
            {"net0": "virtio=52:54:00:00:00:01", "scsi1": "local:y", "machine": "q35"}, taps={0: "x" * 20}
        )
        with pytest.raises(HostFailure):
            await engine.add_disk(missing, "scsi1")
        with pytest.raises(HostFailure):
            await engine.add_interface(taken, 0)
        # A card for another board: its bus does not exist here.
        wrong = bench.plan({"net0": "e1000e=52:54:00:00:00:01", "machine": "q35"}, taps={0: tap})
        with pytest.raises(HostFailure):
            await engine.add_interface(wrong, 0)
        async with asyncio.timeout(10):
            while links.exists(tap):
                await asyncio.sleep(0.02)
        assert before == await devices(bench)

    live(story)


def test_a_card_is_plugged_by_its_tap(live: Callable[[Story], None]) -> None:
    async def story(bench: Bench) -> None:
        tap = f"bt{os.getpid() % 100000}"
        await bench.engine.start(bench.plan())
        await bench.engine.add_interface(bench.plan({"net0": "virtio=52:54:00:00:00:01,queues=2"}, taps={0: tap}), 0)
        assert links.exists(tap)
        await bench.engine.set_link(VMID, 0, up=False)
        assert bench.engine.traffic(VMID) == (0, 0)
        engine = (await bench.another()).engine
        await engine.stop(VMID)
        assert not links.exists(tap)

    live(story)


def test_processors_memory_and_limits_change(live: Callable[[Story], None]) -> None:
    async def story(bench: Bench) -> None:
        engine = bench.engine
        options = {
            "cores": "4", "vcpus": "1", "hotplug": "cpu,memory,disk,network", "machine": "q35", "cpulimit": "1.5",
            "numa": "1",
        }  # fmt: skip
        await engine.start(bench.plan(options))
        emulated = engine.accelerator[0] == "tcg"
        await engine.set_vcpus(VMID, 1 if emulated else 3)
        status = await engine.status(VMID)
        assert status is not None
        assert status.vcpus == (1 if emulated else 3)
        for count in (0, 5, *([2] if emulated else [])):
            with pytest.raises(NotSupported):
                await engine.set_vcpus(VMID, count)
        await engine.set_memory(VMID, 32 + 256)
        assert "dimm0" in await engine.monitor(VMID, "info memory-devices")
        with pytest.raises(NotSupported):
            await engine.set_memory(VMID, 32 + 300)
        await engine.set_balloon(VMID, 24)
        await engine.set_limits(VMID, bench.plan({"cpulimit": "0.5", "affinity": "0"}).config)
        assert group_file(bench, "cpuset.cpus").read_text().strip() == "0"
        await engine.set_limits(VMID, bench.plan({}).config)
        assert group_file(bench, "cpuset.cpus").read_text().strip() != "0" or os.cpu_count() == 1

    live(story)


def test_the_log_is_bounded_and_kept(live: Callable[[Story], None]) -> None:
    async def story(bench: Bench) -> None:
        await bench.engine.start(bench.plan())
        pid = bench.engine.init_pid(VMID)
        assert pid is not None
        log = os.open(f"/proc/{pid}/fd/2", os.O_WRONLY)
        os.write(log, b"said something\n")
        with pytest.raises(OSError, match="not permitted"):
            os.pwrite(log, b"too much", 1 << 20)
        os.close(log)
        await (await bench.another()).engine.stop(VMID)
        assert "said something" in (bench.layout.logs / "qemu" / f"{VMID}.log").read_text()

    live(story)
