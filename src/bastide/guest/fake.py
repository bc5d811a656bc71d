"""A container engine without containers: a first-class driver for tests and for trying the API without root.

It keeps what a real engine would ask the kernel, and fails on demand: `fail_next["start"] = error`.
"""

import asyncio
import contextlib
import io
import os
import shutil
import tarfile
import tempfile
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bastide.base.errors import BastideError, WrongState
from bastide.guest.protocol import Command, ContainerPlan, IdMap, Mount, Terminal
from bastide.host import run
from bastide.host.pipeline import Stage
from bastide.model.backup import Tree
from bastide.model.container import ContainerConfig
from bastide.model.guest import Address, GuestState, Usage


@dataclass
class _Running:
    plan: ContainerPlan
    started: float
    stopped: asyncio.Event = field(default_factory=asyncio.Event)
    frozen: bool = False


class FakeEngine:
    """In-memory containers. Commands run on the host, so only tests may execute any."""

    def __init__(self) -> None:
        self.guests: dict[int, _Running] = {}
        self.fail_next: dict[str, BastideError] = {}
        self.limits: dict[int, ContainerConfig] = {}
        self.stale: set[int] = set()
        self.seeds: dict[int, dict[str, str]] = {}
        self.excluded: list[str] = []

    def _maybe_fail(self, action: str) -> None:
        error = self.fail_next.pop(action, None)
        if error is not None:
            raise error

    def _guest(self, vmid: int) -> _Running:
        try:
            return self.guests[vmid]
        except KeyError:
            raise WrongState(f"CT {vmid} not running") from None

    def state(self, vmid: int) -> GuestState:
        """See Lifecycle."""
        guest = self.guests.get(vmid)
        if guest is None:
            return GuestState.STOPPED
        return GuestState.PAUSED if guest.frozen else GuestState.RUNNING

    def running(self) -> frozenset[int]:
        """See Lifecycle."""
        return frozenset(self.guests)

    def init_pid(self, vmid: int) -> int | None:
        """See Lifecycle."""
        return os.getpid() if vmid in self.guests else None

    def started_at(self, vmid: int) -> float | None:
        """See Lifecycle."""
        return self.guests[vmid].started if vmid in self.guests else None

    async def start(self, plan: ContainerPlan) -> None:
        """See Lifecycle."""
        self._maybe_fail("start")
        if plan.vmid in self.guests:
            raise WrongState(f"CT {plan.vmid} already running")
        self.guests[plan.vmid] = _Running(plan, time.time())

    async def stop(self, vmid: int) -> None:
        """See Lifecycle."""
        self._maybe_fail("stop")
        self._guest(vmid).stopped.set()
        del self.guests[vmid]
        self.stale.add(vmid)

    async def shutdown(self, vmid: int, deadline: float) -> bool:
        """See Lifecycle."""
        await self.stop(vmid)
        return True

    async def reboot(self, vmid: int, deadline: float) -> bool:
        """See Lifecycle."""
        self._guest(vmid).started = time.time()
        return True

    async def freeze(self, vmid: int) -> None:
        """See Lifecycle."""
        self._guest(vmid).frozen = True

    async def thaw(self, vmid: int) -> None:
        """See Lifecycle."""
        self._guest(vmid).frozen = False

    async def wait_stopped(self, vmid: int) -> None:
        """See Lifecycle."""
        if vmid in self.guests:
            await self.guests[vmid].stopped.wait()

    def ended(self) -> frozenset[int]:
        """See Lifecycle."""
        return frozenset(self.stale)

    def forget(self, vmid: int) -> None:
        """See Look."""

    async def cleanup(self, vmid: int) -> bool:
        """See Lifecycle."""
        there = vmid in self.stale
        self.stale.discard(vmid)
        return there

    def usage(self, vmid: int, *, stalls: bool = False) -> Usage | None:
        """See Inspection."""
        if vmid not in self.guests:
            return None
        return Usage(cpu_seconds=1.0, memory=10 << 20, swap=0, disk_read=0, disk_written=0, processes=1)

    async def addresses(self, vmid: int) -> Sequence[Address]:
        """See Inspection."""
        nics = self.guests[vmid].plan.config.net if vmid in self.guests else {}
        return [
            Address(nic.name, nic.hwaddr or "", nic.ip.partition("/")[0], int(nic.ip.partition("/")[2]))
            for nic in nics.values()
            if nic.ip and "/" in nic.ip
        ]

    def traffic(self, vmid: int) -> tuple[int, int]:
        """See Inspection."""
        self._guest(vmid)
        return 0, 0

    async def execute(self, vmid: int, command: Command) -> Process:
        """See Execution."""
        self._guest(vmid)
        return await run.spawn(command.argv, env=command.env, stdin=PIPE, stdout=PIPE, stderr=PIPE)

    async def execute_terminal(self, vmid: int, command: Command, terminal: Terminal) -> tuple[Process, int]:
        """See Execution."""
        self._guest(vmid)
        master, slave = os.openpty()
        try:
            process = await run.spawn(command.argv, env=command.env, stdin=slave, stdout=slave, stderr=slave)
        finally:
            os.close(slave)
        return process, master

    async def console(self, vmid: int, tty: int, terminal: Terminal) -> tuple[Process, int]:
        """See Execution."""
        return await self.execute_terminal(vmid, Command(["/bin/cat"]), terminal)

    async def set_limits(self, vmid: int, config: ContainerConfig) -> None:
        """See HotChange."""
        self._guest(vmid)
        self.limits[vmid] = config

    async def add_interface(self, plan: ContainerPlan, index: int) -> None:
        """See HotChange."""
        self._maybe_fail("add_interface")
        self._guest(plan.vmid).plan = plan

    async def remove_interface(self, vmid: int, name: str, host_name: str) -> None:
        """See HotChange."""
        self._guest(vmid)

    async def add_mount(self, plan: ContainerPlan, mount: Mount) -> None:
        """See HotChange."""
        self._maybe_fail("add_mount")
        self._guest(plan.vmid).plan = plan

    def choose_ids(self, vmid: int, taken: Collection[int]) -> IdMap:
        """See Preparation."""
        return IdMap(max([65536, *(first + 65536 for first in taken)]))

    @asynccontextmanager
    async def unpacking(self, tree: Tree, idmap: IdMap) -> AsyncIterator[Sequence[str]]:
        """See Preparation. What belongs into volumes is moved there in the end."""
        self._maybe_fail("unpack")
        yield ["tar", "-x", "-f", "-", "-C", str(tree.root), "--no-same-owner", "--exclude=./dev/*",
               "--exclude=./etc/vzdump"]  # fmt: skip
        for place, folder in sorted(tree.mounts.items(), reverse=True):
            inside = tree.root / place.lstrip("/")
            inside.mkdir(parents=True, exist_ok=True)
            for entry in inside.iterdir():
                shutil.move(entry, folder)

    @contextmanager
    def packing(
        self, tree: Tree, idmap: IdMap, files: Mapping[str, bytes], exclude: Sequence[str] = ()
    ) -> Iterator[Stage]:
        """See Preparation. The stream is made in memory; patterns are only kept in `excluded`."""
        self._maybe_fail("packing")
        self.excluded = list(exclude)
        with tempfile.TemporaryFile() as file:
            with tarfile.open(fileobj=file, mode="w") as archive:
                for name, content in files.items():
                    member = tarfile.TarInfo(f"./etc/vzdump/{name}")
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))
                for place, folder in [("", tree.root), *tree.mounts.items()]:
                    archive.add(folder, f".{place}")
            file.flush()
            yield Stage(["cat", f"/proc/self/fd/{file.fileno()}"], "read", pass_fds=[file.fileno()])

    def following(
        self, source: Tree, target: Path, idmap: IdMap, exclude: Sequence[str] = (), rate: int = 0
    ) -> Sequence[str]:
        """See Preparation. The root alone."""
        self._maybe_fail("following")
        return ["cp", "-r", "--", f"{source.root}/.", str(target)]

    def copying(
        self, source: Path, source_ids: IdMap, target: Path, target_ids: IdMap
    ) -> tuple[Sequence[str], Sequence[str]]:
        """See Preparation."""
        self._maybe_fail("copying")
        return ["tar", "-c", "-f", "-", "-C", str(source), "."], ["tar", "-x", "-f", "-", "-C", str(target)]

    def detect(self, rootfs: Path) -> tuple[str, str]:
        """See Preparation."""
        with contextlib.suppress(OSError):
            if "debian" in (rootfs / "etc/os-release").read_text(errors="replace").lower():
                return "debian", "amd64"
        return "unmanaged", "amd64"

    def customize(self, plan: ContainerPlan) -> None:
        """See Preparation."""

    def set_credentials(self, plan: ContainerPlan, password_hash: str | None, ssh_keys: str | None) -> None:
        """See Preparation."""
        self._maybe_fail("set_credentials")

    def set_identity(self, plan: ContainerPlan) -> None:
        """See Preparation."""
        self._maybe_fail("set_identity")

    def seed(self, plan: ContainerPlan, texts: Mapping[str, str]) -> None:
        """See Preparation."""
        self._maybe_fail("seed")
        self.seeds[plan.vmid] = dict(texts)
