"""The container engine alone, on real containers: a busybox root where systemd is not the point, Debian where it is."""

import asyncio
import contextlib
import io
import os
import subprocess
import tarfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bastide.base.errors import HostFailure, WrongState
from bastide.base.layout import Layout
from bastide.guest.lxc.engine import LxcEngine
from bastide.guest.protocol import Command, ContainerPlan, Mount, Terminal
from bastide.host import pty
from bastide.model.backup import Tree
from bastide.model.container import ContainerConfig, MountPoint, NetworkInterface
from bastide.model.guest import GuestState
from framework.groups import groups_of
from framework.patience import PATIENCE
from framework.roots import busybox_tar, debian_tar, remove_tree

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]


# Numbers of amd64: init_module, finit_module, delete_module, kexec_load, kexec_file_load, open_by_handle_at,
# perf_event_open, bpf, userfaultfd are denied; add_key, request_key, keyctl and io_uring_setup do not exist.
DENIED = dict.fromkeys((175, 313, 176, 246, 320, 304, 298, 321, 323), 1) | dict.fromkeys((248, 249, 250, 425), 38)


class Bench:
    """An engine in a closed folder, and roots for its guests."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.layout = Layout(folder / "host")
        self.engine = LxcEngine(self.layout)
        self.vmid = 1000
        self.taken: list[int] = []

    async def plan(self, archive: bytes | Path, **options: Any) -> ContainerPlan:
        """Unpack a root and plan a container with it."""
        self.vmid += 1
        root = self.folder / f"root{self.vmid}"
        root.mkdir()
        idmap = self.engine.choose_ids(self.vmid, self.taken)
        self.taken.append(idmap.first)
        async with self.engine.unpacking(Tree(root), idmap) as argv:
            content = await asyncio.to_thread(archive.read_bytes) if isinstance(archive, Path) else archive
            code, said = await fed(argv, content)
        assert code == 0, said
        config = ContainerConfig.parse({"memory": 256, "hostname": f"ct{self.vmid}", **options})
        interfaces = {index: f"bte{os.getpid() % 10000}{self.vmid % 100}i{index}" for index in config.net}
        return ContainerPlan(self.vmid, config, root, [], interfaces, idmap, ["192.0.2.53"], "example.org")

    async def run(self, vmid: int, *argv: str, **options: Any) -> tuple[int, str]:
        """Run a command in a guest: exit code and output."""
        process = await self.engine.execute(vmid, Command(argv, **options))
        async with asyncio.timeout(30 * PATIENCE):
            out, err = await process.communicate()
        return process.returncode or 0, (out + err).decode()


async def fed(argv: Sequence[str], content: bytes) -> tuple[int, bytes]:
    """Run a program with that on its standard input: exit code and what it said."""
    done = await asyncio.to_thread(subprocess.run, argv, input=content, capture_output=True, check=False)
    return done.returncode, done.stderr


def traces(instance: str) -> list[str]:
    """What an instance has left on the machine: groups, mounts, processes."""
    found = [str(path) for path in groups_of(instance)]
    found += [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if instance in line]
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            command = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            found += [command] if instance in command else []
    return found + [str(path) for path in Path("/run").glob(f"{instance}*")]


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Callable[[Callable[[Bench], Awaitable[None]]], None]]:
    """Runs a test's story with a bench; afterwards nothing of it may be left."""
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o700)
    instances: list[str] = []

    @contextlib.asynccontextmanager
    async def bench() -> AsyncIterator[Bench]:
        opened = Bench(folder)
        instances.append(opened.layout.instance)
        await opened.engine.prepare()
        try:
            yield opened
        finally:
            for vmid in opened.engine.running():
                await opened.engine.stop(vmid)
            for number in range(1001, opened.vmid + 1):
                await opened.engine.cleanup(number)
            await opened.engine.purge()

    def tell(story: Callable[[Bench], Awaitable[None]]) -> None:
        async def whole() -> None:
            async with bench() as opened:
                await story(opened)

        asyncio.run(whole())

    yield tell
    for instance in instances:
        assert traces(instance) == []
    remove_tree(folder)


async def systemd_up(bench: Bench, vmid: int) -> str:
    """Wait until systemd says that it is done; returns its word."""
    for _ in range(300):
        word = (await bench.run(vmid, "systemctl", "is-system-running"))[1].strip()
        if word in ("running", "degraded"):
            return word
        await asyncio.sleep(0.1)
    return word


def test_a_debian_guest_lives(live: Any) -> None:
    async def story(bench: Bench) -> None:
        net = "name=eth0,ip=192.0.2.10/24,gw=192.0.2.1,ip6=2001:db8::10/64,hwaddr=02:00:00:00:00:01"
        plan = await bench.plan(debian_tar(), net0=net, cores=1, ostype="debian")
        engine, vmid = bench.engine, plan.vmid
        assert engine.detect(plan.rootfs) == ("debian", "amd64")
        engine.set_identity(plan)
        engine.set_credentials(plan, "$6$salt$hash", "ssh-ed25519 AAAA me\n")
        engine.customize(plan)
        await engine.start(plan)
        if await systemd_up(bench, vmid) != "running":
            pytest.fail((await bench.run(vmid, "systemctl", "--failed"))[1])
        assert await bench.run(vmid, "hostname") == (0, f"ct{vmid}\n")
        found = {(item.interface, item.address, item.prefix) for item in await engine.addresses(vmid)}
        assert {("eth0", "192.0.2.10", 24), ("eth0", "2001:db8::10", 64)} <= found
        assert "default via 192.0.2.1 dev eth0" in (await bench.run(vmid, "ip", "route"))[1]
        assert "nameserver 192.0.2.53" in (await bench.run(vmid, "cat", "/etc/resolv.conf"))[1]
        prompts = (await bench.run(vmid, "systemctl", "is-active", "console-getty", "container-getty@1"))[1]
        assert prompts.split() == ["active", "active"]
        assert (await bench.run(vmid, "stat", "-c", "%a", "/root/.ssh/authorized_keys"))[1] == "600\n"
        keys = (await bench.run(vmid, "ls", "/etc/ssh"))[1]
        assert "ssh_host_ed25519_key" in keys
        assert "rsa" not in keys
        usage = engine.usage(vmid)
        assert usage is not None
        assert 0 < usage.memory < 256 << 20
        assert usage.cpu_seconds > 0
        assert usage.processes > 3
        init, started = engine.init_pid(vmid), engine.started_at(vmid)
        assert started is not None
        assert abs(started - time.time()) < 60

        # ATTACKS 34: what no guest may ask of the kernel.
        perl = "$! = 0; my $found = syscall(shift, @ARGV ? map { $_ + 0 } @ARGV : (0) x 5); print $! + 0"
        for number, error in DENIED.items():
            assert (number, (await bench.run(vmid, "perl", "-e", perl, str(number)))[1]) == (number, str(error))
        assert (await bench.run(vmid, "perl", "-e", perl, "41", "38", "5", "0"))[1] == "97", "socket(AF_ALG)"

        # A further daemon finds it, and sees the guest's own reboot.
        again = LxcEngine(bench.layout)
        assert (again.running(), again.init_pid(vmid)) == (frozenset({vmid}), init)
        assert await again.reboot(vmid, 30)
        assert engine.init_pid(vmid) not in (None, init)
        assert engine.state(vmid) is GuestState.RUNNING
        assert await systemd_up(bench, vmid) == "running"
        assert {item.address for item in await engine.addresses(vmid)} >= {"192.0.2.10"}

        stopped = asyncio.ensure_future(engine.wait_stopped(vmid))
        assert await engine.shutdown(vmid, 30)
        async with asyncio.timeout(10):
            await stopped
        assert (engine.state(vmid), engine.running()) == (GuestState.STOPPED, frozenset())

    live(story)


def test_changes_of_a_running_guest(live: Any) -> None:
    async def story(bench: Bench) -> None:
        plan = await bench.plan(debian_tar(), ostype="debian", net0="name=eth0,ip=192.0.2.10/24")
        engine, vmid = bench.engine, plan.vmid
        engine.customize(plan)
        await engine.start(plan)
        assert await systemd_up(bench, vmid) == "running"

        config = plan.config.model_copy(update={"memory": 128, "swap": 0, "cores": 1, "cpulimit": 0.5})
        await engine.set_limits(vmid, config)
        shown = (await bench.run(vmid, "cat", "/proc/meminfo"))[1]
        assert f"{128 * 1024} kB" in shown.splitlines()[0]
        await engine.set_limits(vmid, plan.config.model_copy(update={"memory": 512}))

        nic = NetworkInterface.parse({"name": "lan0", "ip": "198.51.100.7/24", "hwaddr": "02:00:00:00:00:07"})
        changed = replace(
            plan,
            config=plan.config.model_copy(update={"net": {**plan.config.net, 1: nic}}),
            interfaces={**plan.interfaces, 1: f"btx{os.getpid() % 100000}i1"},
        )
        await engine.add_interface(changed, 1)
        assert "198.51.100.7" in {item.address for item in await engine.addresses(vmid)}
        assert "iface lan0" in (await bench.run(vmid, "cat", "/etc/network/interfaces"))[1]
        await engine.remove_interface(vmid, "lan0", changed.interfaces[1])
        assert {item.interface for item in await engine.addresses(vmid)} == {"eth0"}

        volume = bench.folder / "volume"
        volume.mkdir(mode=0o755)
        (volume / "mine").touch()
        point = MountPoint.parse({"volume": "local:1", "mp": "/srv/new/deep"})
        await engine.add_mount(plan, Mount(volume, point, mapped=True))
        assert (await bench.run(vmid, "stat", "-c", "%u", "/srv/new/deep/mine")) == (0, "0\n")
        assert (await bench.run(vmid, "touch", "/srv/new/deep/theirs"))[0] == 0
        assert (volume / "theirs").stat().st_uid == 0

    live(story)


def test_commands_and_terminals(live: Any) -> None:
    async def story(bench: Bench) -> None:
        plan = await bench.plan(busybox_tar())
        engine, vmid = bench.engine, plan.vmid
        await engine.start(plan)
        assert await bench.run(vmid, "sh", "-c", "exit 7") == (7, "")
        assert (await bench.run(vmid, "sh", "-c", "kill -9 $$"))[0] == 137
        assert (await bench.run(vmid, "/no/such/program"))[0] == 127
        assert (await bench.run(vmid, "pwd", cwd="/var/lib")) == (0, "/var/lib\n")
        assert (await bench.run(vmid, "pwd")) == (0, "/\n")
        hostile = "$(touch /tmp/pwned); `id`\n'\""
        assert await bench.run(vmid, "echo", hostile, cwd="/tmp") == (0, hostile + "\n")
        code, shown = await bench.run(vmid, "env", env={"A": "x y\nz"}, uid=1000, gid=1000)
        assert code == 0
        assert {"A=x y", "z", "HOME=/srv", "USER=user"} <= set(shown.splitlines())
        assert not [line for line in shown.splitlines() if line.startswith(("LC_", "PYTHON", "BASTIDE"))]
        assert "uid=1000(user) gid=1000" in (await bench.run(vmid, "id", uid=1000, gid=1000))[1]

        # ATTACKS 8: nothing of the host's is open in the guest but the three streams.
        listed = (await bench.run(vmid, "ls", "/proc/self/fd"))[1].split()
        assert [number for number in listed if int(number) > 3] == []
        assert (await bench.run(vmid, "readlink", "/proc/self/cwd"))[1] == "/\n"

        process, master = await engine.execute_terminal(vmid, Command(["sh"]), Terminal(100, 30))
        await until(master, b"# ")  # input before the prompt is lost: the shell sets its terminal up first
        # Only once the program in front runs is it the one that Ctrl+C ends.
        os.write(master, b"stty size; sh -c 'echo in fro\"\"nt; exec cat'\n")
        assert b"30 100" in await until(master, b"in front")
        pty.resize(master, 90, 20)
        os.write(master, b"\x03")
        await until(master, b"# ")
        os.write(master, b"stty size; exit 5\n")
        assert b"20 90" in await until(master, b"20 90")
        assert await process.wait() == 5
        os.close(master)

        await engine.freeze(vmid)
        assert engine.state(vmid) is GuestState.PAUSED
        assert engine.running() == {vmid}
        with pytest.raises(WrongState):
            await engine.execute(vmid, Command(["true"]))
        await engine.thaw(vmid)
        assert engine.state(vmid) is GuestState.RUNNING
        await engine.freeze(vmid)
        await engine.stop(vmid)
        with pytest.raises(WrongState):
            await engine.execute(vmid, Command(["true"]))

    live(story)


def test_a_console_belongs_to_the_guests_terminal(live: Any) -> None:
    async def story(bench: Bench) -> None:
        plan = await bench.plan(busybox_tar())
        (plan.rootfs / "etc/inittab").write_text("tty1::respawn:/bin/sh -c 'echo ready; exec cat'\n")
        await bench.engine.start(plan)
        process, master = await bench.engine.console(plan.vmid, 1, Terminal())
        os.write(master, b"\x01hello\n")
        assert b"hello" in await until(master, b"hello")
        process.terminate()
        await process.wait()
        os.close(master)

    live(story)


async def until(master: int, wanted: bytes) -> bytes:
    """What a terminal shows until the text appears, at most ten seconds."""
    seen = b""

    def read() -> bytes:
        nonlocal seen
        end = time.monotonic() + 10
        os.set_blocking(master, False)
        while wanted not in seen and time.monotonic() < end:
            with contextlib.suppress(BlockingIOError):
                seen += os.read(master, 4096)
            time.sleep(0.01)
        return seen

    return await asyncio.to_thread(read)


def test_a_failed_start_says_why_and_leaves_nothing(live: Any) -> None:
    async def story(bench: Bench) -> None:
        plan = await bench.plan(busybox_tar(), net0="name=eth0,bridge=nosuchbr0,ip=manual")
        with pytest.raises(HostFailure, match="nosuchbr0"):
            await bench.engine.start(plan)
        assert traces(f"{bench.layout.instance}/{plan.vmid}") == []

        config = plan.config.model_copy(update={"net": {}})
        (plan.rootfs / "sbin/init").unlink()
        with pytest.raises(HostFailure, match="/sbin/init"):
            await bench.engine.start(replace(plan, config=config))
        (plan.rootfs / "sbin/init").symlink_to("/bin/busybox")

        missing = Mount(bench.folder / "gone", MountPoint.parse({"volume": "/gone", "mp": "/srv"}), mapped=False)
        with pytest.raises(HostFailure, match="gone"):
            await bench.engine.start(replace(plan, config=config, mounts=[missing]))
        assert bench.engine.running() == frozenset()
        await bench.engine.start(replace(plan, config=config))
        with pytest.raises(WrongState, match="already running"):
            await bench.engine.start(replace(plan, config=config))

    live(story)


def test_a_start_that_is_cut_short_leaves_nothing(live: Any) -> None:
    async def story(bench: Bench) -> None:
        plan = await bench.plan(busybox_tar())
        for delay in (0, 0.005, 0.01, 0.02, 0.03, 0.04, 0.06, 0.1):
            starting = asyncio.ensure_future(bench.engine.start(plan))
            await asyncio.sleep(delay)
            starting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await starting
                await bench.engine.stop(plan.vmid)
            assert bench.engine.running() == frozenset()
            assert groups_of(bench.layout.instance, f"*{plan.vmid}") == []
            mounts = Path("/proc/self/mountinfo").read_text()
            assert f"{bench.layout.instance}-guests/{plan.vmid}" not in mounts
        await bench.engine.start(plan)

    live(story)


def test_mounts_and_devices(live: Any) -> None:
    async def story(bench: Bench) -> None:
        plan = await bench.plan(busybox_tar(), dev0="/dev/full,uid=5,mode=0600")
        volume, shared = bench.folder / "volume", bench.folder / "shared"
        volume.mkdir()
        shared.mkdir(mode=0o777)
        shared.chmod(0o777)
        (shared / "mine").write_text("host\n")
        mounts = [
            Mount(
                volume, MountPoint.parse({"volume": "local:1", "mp": "/srv/v", "mountoptions": "noexec"}), mapped=True
            ),
            Mount(shared, MountPoint.parse({"volume": "/x", "mp": "/srv/v/s", "ro": 1}), mapped=False),
        ]
        await bench.engine.start(replace(plan, mounts=mounts))
        vmid = plan.vmid
        script = (
            "cp /bin/busybox /srv/v/x 2>/dev/null || cat /bin/busybox > /srv/v/x; chmod 755 /srv/v/x; /srv/v/x true"
        )
        assert (await bench.run(vmid, "sh", "-c", script))[0] == 126
        assert (await bench.run(vmid, "cat", "/srv/v/s/mine")) == (0, "host\n")
        for change in ("touch /srv/v/s/n", "mount -o remount,rw,bind /srv/v/s && touch /srv/v/s/n"):
            assert (await bench.run(vmid, "sh", "-c", change))[0] != 0
        assert (await bench.run(vmid, "sh", "-c", "mount -o remount,exec,bind /srv/v"))[0] != 0
        assert [path.name for path in shared.iterdir()] == ["mine"]
        assert (volume / "x").stat().st_uid == 0
        assert (await bench.run(vmid, "ls", "-ln", "/dev/full"))[1].split()[:3] == ["crw-------", "1", "5"]

    live(story)


def test_a_mount_never_follows_the_guests_links(live: Any) -> None:
    """ATTACKS 7: the target is a link to a folder of the host, or flips between a folder and such a link."""

    async def story(bench: Bench) -> None:
        plan = await bench.plan(busybox_tar())
        volume = bench.folder / "volume"
        volume.mkdir()
        await bench.engine.start(plan)
        vmid = plan.vmid
        flip = "while true; do mkdir -p /srv/t; rm -r /srv/t; ln -s /proc/1/root /srv/t; rm /srv/t; done 2>/dev/null"
        flipping = await bench.engine.execute(vmid, Command(["sh", "-c", flip]))
        for number in range(15):
            point = MountPoint.parse({"volume": "local:1", "mp": f"/srv/t/d{number}"})
            with contextlib.suppress(HostFailure):
                await bench.engine.add_mount(plan, Mount(volume, point, mapped=True))
        assert str(volume) not in Path("/proc/self/mountinfo").read_text()
        await bench.engine.stop(vmid)
        await flipping.wait()

    live(story)


def test_a_guest_is_confined(live: Any) -> None:
    async def story(bench: Bench) -> None:
        plan = await bench.plan(busybox_tar())
        await bench.engine.start(plan)
        vmid = plan.vmid
        pid = bench.engine.init_pid(vmid)
        assert pid is not None
        assert plan.idmap is not None
        assert Path(f"/proc/{pid}/uid_map").read_text().split() == ["0", str(plan.idmap.first), "65536"]
        status = Path(f"/proc/{pid}/status").read_text()
        assert "Seccomp:\t2" in status
        assert (await bench.run(vmid, "mknod", "/tmp/mem", "c", "1", "1"))[0] != 0
        for path in ("/proc/sysrq-trigger", "/proc/sys/kernel/core_pattern", "/sys/kernel/uevent_helper"):
            assert (await bench.run(vmid, "sh", "-c", f"echo x > {path}"))[0] != 0
        assert (await bench.run(vmid, "cat", "/proc/kcore"))[0] != 0
        # A fork bomb ends at the guest's own limit.
        bomb = "i=0; while [ $i -lt 100 ]; do sleep 30 >/dev/null 2>&1 & i=$((i+1)); done; wc -l < /dev/null"
        assert (await bench.run(vmid, "sh", "-c", bomb))[0] == 0
        limit = bench.engine._runtime.groups.read_int(bench.engine._runtime.group(vmid), "pids", "pids.max")
        assert limit is not None
        assert limit <= int(Path("/proc/sys/kernel/pid_max").read_text()) // 2
        # The setuid program on disk belongs to the guest's root, and nobody else reaches it.
        assert (plan.rootfs / "bin/setuid").stat().st_mode & 0o4000
        assert bench.folder.stat().st_mode & 0o077 == 0

    live(story)


def test_a_privileged_guest(live: Any) -> None:
    async def story(bench: Bench) -> None:
        plan = replace(await bench.plan(busybox_tar()), idmap=None)
        await bench.engine.start(plan)
        pid = bench.engine.init_pid(plan.vmid)
        assert Path(f"/proc/{pid}/uid_map").read_text().split() == ["0", "0", "4294967295"]
        assert (await bench.run(plan.vmid, "sh", "-c", "mknod /tmp/vda b 254 0 && cat /tmp/vda"))[0] != 0
        assert await bench.engine.shutdown(plan.vmid, 10)

    live(story)


def evil_tar(*members: tuple[str, bytes, str, int]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, kind, link, mode in members:
            member = tarfile.TarInfo(name)
            member.type, member.linkname, member.mode = kind, link, mode
            content = b"evil\n" if kind == tarfile.REGTYPE else b""
            member.size, member.devmajor, member.devminor = len(content), 1, 1
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def test_archives_cannot_leave_the_root(live: Any, tmp_path: Path) -> None:
    """ATTACKS 4 and 6."""
    target = tmp_path / "outside"
    target.mkdir(mode=0o777)
    target.chmod(0o777)
    (target / "canary").write_text("host\n")
    (target / "canary").chmod(0o666)
    away, regular, link, hard = str(target), tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE
    archives = {
        "absolute": [(f"{away}/a", regular, "", 0o644)],
        "dots": [("../../../../../../" + away.strip("/") + "/b", regular, "", 0o644)],
        "through a link": [("d", link, away, 0o777), ("d/c", regular, "", 0o644), ("d/canary", regular, "", 0o644)],
        "chain": [("e", link, "/", 0o777), ("f", link, f"e{away}", 0o777), ("f/g", regular, "", 0o644)],
        "hard link": [("h", hard, f"{away}/canary", 0o777), ("h", regular, "", 0o644)],
        "relative hard link": [("i", hard, "../outside/canary", 0o777), ("i", regular, "", 0o666)],
        "device": [("node", tarfile.CHRTYPE, "", 0o666), ("sda", tarfile.BLKTYPE, "", 0o666)],
        "setuid": [("su", regular, "", 0o6755)],
    }
    stat = (target / "canary").stat()

    async def story(bench: Bench) -> None:
        for name, members in archives.items():
            root = bench.folder / name.replace(" ", "-")
            root.mkdir()
            idmap = bench.engine.choose_ids(1, [])
            async with bench.engine.unpacking(Tree(root), idmap) as argv:
                code, said = await fed(argv, evil_tar(*members))
            nodes = [path for path in root.rglob("*") if path.is_char_device() or path.is_block_device()]
            assert nodes == [], (name, said)
            if name in ("device", "hard link", "relative hard link"):
                assert code != 0, name

    live(story)
    assert [path.name for path in target.iterdir()] == ["canary"]
    after = (target / "canary").stat()
    assert (after.st_nlink, after.st_mtime_ns, after.st_ino) == (1, stat.st_mtime_ns, stat.st_ino)
    assert (target / "canary").read_text() == "host\n"
