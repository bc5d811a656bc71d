"""Start, stop and look: LXC's monitor is the supervisor, the kernel the source of every answer."""

import asyncio
import contextlib
import os
import re
import shutil
import signal
from pathlib import Path

from bastide.base.errors import DeadlineExceeded, HostFailure, WrongState
from bastide.guest.lxc import hook, limits
from bastide.guest.lxc import host as facts
from bastide.guest.lxc.lxcfs import Lxcfs
from bastide.guest.lxc.render import render_config
from bastide.guest.lxc.runtime import UMASK, Runtime, wait_for_end
from bastide.guest.lxc.seccomp import render_seccomp
from bastide.guest.protocol import ContainerPlan
from bastide.host import idmap, processes, run
from bastide.model.guest import GuestState

# Without newuidmap on the PATH LXC writes the id map itself, as root may, and needs no entry in /etc/subuid. The
# folders hold apparmor_parser, which LXC calls by name.
_PATH = {"PATH": "/usr/sbin:/sbin"}
_START_DEADLINE = 60.0
_STOP_DEADLINE = 30.0
_KILL_DEADLINE = 5.0
_LOG_LINE = re.compile(r"^\S+ .*? ERROR +\S+ - \S+:\d+ - (.*)$")


class Lifecycle:
    """The `Lifecycle` part of the engine."""

    def __init__(self, runtime: Runtime, lxcfs: Lxcfs) -> None:
        self._runtime = runtime
        self._lxcfs = lxcfs

    def state(self, vmid: int) -> GuestState:
        """What the kernel says now."""
        if self._runtime.monitor(vmid) is None:
            return GuestState.STOPPED
        return GuestState.PAUSED if self._runtime.groups.frozen(self._runtime.group(vmid)) else GuestState.RUNNING

    def running(self) -> frozenset[int]:
        """The guests that run or are paused."""
        return self._runtime.running()

    def init_pid(self, vmid: int) -> int | None:
        """The guest's first process as the host numbers it."""
        return self._runtime.init_pid(vmid)

    def started_at(self, vmid: int) -> float | None:
        """Seconds since the epoch at which its init started (a reboot counts)."""
        pid = self._runtime.init_pid(vmid)
        ticks = None if pid is None else processes.started(pid)
        return None if ticks is None else processes.epoch(ticks)

    async def start(self, plan: ContainerPlan) -> None:
        """Start it; returns when its init runs."""
        vmid = plan.vmid
        if self._runtime.monitor(vmid) is not None:
            raise WrongState(f"CT {vmid} already running")
        try:
            self._write_files(plan)
            await self._mount_root(plan)
            await self._launch(vmid)
        except BaseException:
            await asyncio.shield(self._undo_start(vmid))
            raise

    def _write_files(self, plan: ContainerPlan) -> None:
        folder = self._runtime.folder(plan.vmid)
        features = facts.look(self._lxcfs.mounted())
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, mode=0o700)
        seccomp = folder / "seccomp"
        seccomp.write_text(render_seccomp(plan.config.features, privileged=plan.idmap is None))
        program = hook.write(folder, plan) if plan.mounts or plan.config.dev else ()
        others = [self._runtime.group(other) for other in self._runtime.running()]
        used = limits.cpu_sets(self._runtime.groups, others)
        text = render_config(
            plan,
            features,
            instance=self._runtime.layout.instance,
            rootfs=self._runtime.stage(plan.vmid),
            seccomp=seccomp,
            cpus=limits.choose_cpus(plan.config.cores, limits.online_cpus(), used),
            hook=program,
            devices=hook.device_rules(plan.config.dev),
        )
        (folder / "config").touch(mode=0o600)
        (folder / "config").write_text(text)

    async def _mount_root(self, plan: ContainerPlan) -> None:
        """Mount the root file system where only this guest's root can reach it, with the owners it shall see."""
        target = self._runtime.stage(plan.vmid)
        idmap.unmount_folder(target)
        options = [] if plan.config.rootfs is None else (plan.config.rootfs.mountoptions or "").split(";")
        if plan.config.rootfs is not None and plan.config.rootfs.ro:
            options.append("ro")
        # By chmod: the daemon's umask would take the passage away.
        self._runtime.shared.mkdir(exist_ok=True)
        self._runtime.shared.chmod(0o711)
        target.parent.mkdir(exist_ok=True)
        target.parent.chmod(0o710)
        os.chown(target.parent, 0, 0 if plan.idmap is None else plan.idmap.first)
        target.mkdir()
        try:
            owner = os.stat(plan.rootfs).st_uid
        except OSError as error:
            raise HostFailure(f"cannot use the root file system {plan.rootfs}: {error.strerror}") from None
        if plan.idmap is None or owner == plan.idmap.first:
            idmap.mount_folder(plan.rootfs, target, None, options)
            return
        if owner != 0:
            raise HostFailure(f"the root file system belongs to id {owner}, not to this container's {plan.idmap.first}")
        async with idmap.user_namespace(plan.idmap.first, plan.idmap.count) as user:
            idmap.mount_folder(plan.rootfs, target, user, options)

    async def _launch(self, vmid: int) -> None:
        folder = self._runtime.folder(vmid)
        argv = [
            *self._runtime.tool("/usr/bin/lxc-start", vmid), "-d", "-p", str(folder / "pid"),
            "-l", "ERROR", "-o", str(folder / "log"),
        ]  # fmt: skip
        process = await run.spawn(argv, env=_PATH, cwd=Path("/"), umask=UMASK)
        try:
            async with asyncio.timeout(_START_DEADLINE):
                code = await process.wait()
        except TimeoutError:
            raise DeadlineExceeded(f"CT {vmid} did not start within {_START_DEADLINE:g} seconds") from None
        finally:
            if process.returncode is None:
                await run.kill_group(process)
        if code != 0 or not self._runtime.adopt(vmid):
            raise HostFailure(f"CT {vmid} did not start: {_cause(folder)}")

    async def _undo_start(self, vmid: int) -> None:
        """Leave nothing of a start that failed; its log stays until `cleanup`."""
        self._runtime.adopt(vmid)
        with contextlib.suppress(HostFailure):
            await self.stop(vmid)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_KILL_DEADLINE):
                await processes.until(lambda: self._start_is_gone(vmid), 0.01)
        self._remove_traces(vmid)
        (self._runtime.folder(vmid) / "pid").unlink(missing_ok=True)

    def _start_is_gone(self, vmid: int) -> bool:
        """Kill what is left of a start that was cut short; whether nothing was.

        It may not have named its monitor yet, whose first process is in no group of its own for a moment.
        """
        groups = [self._runtime.group(vmid), self._runtime.monitor_group(vmid)]
        for group in groups:
            self._runtime.groups.kill(group)
        return not self._runtime.kill_starting(vmid) and not any(map(self._runtime.groups.processes, groups))

    async def stop(self, vmid: int) -> None:
        """Kill it; returns when it is gone."""
        monitor = self._runtime.monitor(vmid)
        if monitor is None:
            return
        group = self._runtime.group(vmid)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _STOP_DEADLINE
        while self._runtime.monitor(vmid) is not None:
            if loop.time() > deadline:
                # LXC's monitor hangs: the guest's processes and the monitor go without it.
                self._runtime.groups.kill(group)
                monitor.kill()
            self._kill_init(vmid)
            with contextlib.suppress(OSError):
                # Version 1 delivers the signal to frozen processes when they thaw.
                self._runtime.groups.freeze(group, frozen=False)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await self._runtime.wait_ended(vmid)
            if loop.time() > deadline + 5:
                raise DeadlineExceeded(f"CT {vmid} cannot be killed; its processes hang in the kernel")
        self._remove_traces(vmid)

    def _kill_init(self, vmid: int) -> None:
        pid = self._runtime.init_pid(vmid)
        if pid is None:
            return
        with contextlib.suppress(ProcessLookupError):
            handle = processes.Handle(pid)
            # The number may have been used again since it was read; the parent cannot have changed.
            if self._runtime.init_pid(vmid) == pid:
                handle.kill()
            handle.close()

    async def shutdown(self, vmid: int, deadline: float) -> bool:
        """Ask it to halt; whether it did within the deadline."""
        if self._runtime.monitor(vmid) is None:
            return True
        self._signal_init(vmid, _HALT)
        try:
            async with asyncio.timeout(deadline):
                await self._runtime.wait_ended(vmid)
        except TimeoutError:
            return False
        self._remove_traces(vmid)
        return True

    async def reboot(self, vmid: int, deadline: float) -> bool:
        """Ask its init to reboot; whether the new one began within the deadline."""
        before = self._runtime.init_pid(vmid)
        if before is None:
            raise WrongState(f"CT {vmid} not running")
        try:
            handle = processes.Handle(before)
        except ProcessLookupError:
            raise WrongState(f"CT {vmid} not running") from None
        try:
            self._signal_init(vmid, _REBOOT)
            async with asyncio.timeout(deadline):
                await wait_for_end(handle)
                while self._runtime.monitor(vmid) is not None:
                    if self._runtime.init_pid(vmid) not in (None, before):
                        return True
                    await asyncio.sleep(0.02)
        except TimeoutError:
            pass
        finally:
            handle.close()
        return False

    def _signal_init(self, vmid: int, signals: dict[str, int]) -> None:
        pid = self._runtime.init_pid(vmid)
        if pid is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signals.get(_init_kind(pid), signals[""]))

    async def freeze(self, vmid: int) -> None:
        """Pause every process."""
        await self._set_frozen(vmid, frozen=True)

    async def thaw(self, vmid: int) -> None:
        """Undo `freeze`."""
        await self._set_frozen(vmid, frozen=False)

    async def _set_frozen(self, vmid: int, *, frozen: bool) -> None:
        if self._runtime.monitor(vmid) is None:
            raise WrongState(f"CT {vmid} not running")
        group, groups = self._runtime.group(vmid), self._runtime.groups
        try:
            groups.freeze(group, frozen=frozen)
            async with asyncio.timeout(10):
                await processes.until(lambda: groups.settled(group, frozen=frozen), 0.01)
        except TimeoutError:
            groups.freeze(group, frozen=False)
            raise DeadlineExceeded(f"CT {vmid} has processes that cannot be paused now") from None
        except OSError as error:
            raise HostFailure(f"cannot pause or resume CT {vmid}: {error.strerror}") from error

    async def wait_stopped(self, vmid: int) -> None:
        """Return once the guest does not run."""
        await self._runtime.wait_ended(vmid)
        self._remove_traces(vmid)

    def ended(self) -> frozenset[int]:
        """The guests whose generated files are there and whose monitor is not."""
        return self._runtime.known() - self._runtime.running()

    async def cleanup(self, vmid: int) -> bool:
        """Remove generated files and empty groups of a stopped guest; whether there were any."""
        if self._runtime.monitor(vmid) is not None:
            return False
        there = self._runtime.folder(vmid).exists()
        self._remove_traces(vmid)
        shutil.rmtree(self._runtime.folder(vmid), ignore_errors=True)
        return there

    def forget(self, vmid: int) -> None:
        """Nothing is kept of a container that was cleaned up after."""

    def _remove_traces(self, vmid: int) -> None:
        """Remove a stopped guest's groups and mount."""
        if self._runtime.monitor(vmid) is None:
            self._runtime.groups.remove(self._runtime.group(vmid))
            self._runtime.groups.remove(self._runtime.monitor_group(vmid))
            shutil.rmtree(self._runtime.lxc_folder(vmid), ignore_errors=True)
            stage = self._runtime.stage(vmid)
            idmap.unmount_folder(stage)
            with contextlib.suppress(OSError):
                stage.parent.rmdir()


# systemd(1), busybox's init, sysvinit's init(8); what else there is gets what LXC sends by default.
_HALT = {"systemd": signal.SIGRTMIN + 3, "busybox": signal.SIGUSR2, "init": signal.SIGPWR, "": signal.SIGTERM}
_REBOOT = {"systemd": signal.SIGRTMIN + 5, "busybox": signal.SIGTERM, "init": signal.SIGINT, "": signal.SIGINT}


def _init_kind(pid: int) -> str:
    """Which init a process is: `systemd`, `busybox`, `init`, or the name of another program."""
    try:
        program = os.readlink(f"/proc/{pid}/exe").rpartition("/")[2].removesuffix(" (deleted)")
    except OSError:
        program = processes.command(pid)
    if program.startswith("busybox"):
        return "busybox"
    return "init" if program in ("openrc-init", "upstart") else program


def _cause(folder: Path) -> str:
    """Why a start failed, in one sentence: what the hook said, else the first error of LXC's log."""
    said = hook.complaint(folder)
    if said:
        return said
    try:
        lines = (folder / "log").read_text(errors="replace").splitlines()
    except OSError:
        return "LXC wrote no log"
    for line in lines:
        match = _LOG_LINE.match(line)
        # What lxcfs offers is optional, but LXC calls it an error when it cannot be had.
        if match and "/lxcfs/" not in match[1]:
            reason, dash, text = match[1].partition(" - ")
            return f"{text} ({reason})" if dash else reason
    return "LXC's log names no error"
