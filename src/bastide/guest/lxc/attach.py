"""Processes in a guest, through lxc-attach: it enters every namespace, group, filter and profile of the container.

A process in a guest gets three descriptors and nothing else of the host's; lxc-attach runs from `/`, whose name means
the guest's root once it is there.
"""

import asyncio
import contextlib
import os
import re
import termios
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping, Sequence
from pathlib import Path

from bastide.base.errors import InvalidParameter, NotFound, WrongState
from bastide.guest.lxc.runtime import UMASK, Runtime
from bastide.guest.protocol import Command, Terminal
from bastide.host import pty, run
from bastide.host.rootdir import RootDir
from bastide.model.guest import GuestState

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_TAKE_OVER_DEADLINE = 2.0
# The guest's own shell changes the folder; the words of the command stay arguments and are never parsed.
_CHANGE_FOLDER = 'cd -- "$0" && exec "$@"'
# What ld.so(8) ignores in programs with more rights than their caller, and what the C library and LXC look at.
_STEERS = re.compile(
    r"(LD|LXC|GLIBC|MALLOC|GCONV|LC|NIS|RES|RESOLV)_|(PATH|HOME|LANG|LANGUAGE|GETCONF_DIR|HOSTALIASES|LOCALDOMAIN|"
    r"LOCPATH|NLSPATH|TMPDIR|TZDIR|TZ|IFS|ENV|BASH_ENV)$"
)


class Execution:
    """The `Execution` part of the engine."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    async def execute(self, vmid: int, command: Command) -> Process:
        """Start a command with pipes at its standard streams."""
        argv, env = self._attach(vmid, command, {})
        return await run.spawn(argv, env=env, stdin=PIPE, stdout=PIPE, stderr=PIPE, cwd=Path("/"), umask=UMASK)

    async def execute_terminal(self, vmid: int, command: Command, terminal: Terminal) -> tuple[Process, int]:
        """Start a command on a new pseudo-terminal."""
        argv, env = self._attach(vmid, command, {"TERM": "xterm-256color"})
        return await self._on_terminal(argv, terminal, env)

    async def console(self, vmid: int, tty: int, terminal: Terminal) -> tuple[Process, int]:
        """Attach to a console; nothing typed is an escape character."""
        self._check_running(vmid)
        argv = [*self._runtime.tool("/usr/bin/lxc-console", vmid), "-t", str(tty), "-e", "-1"]
        return await self._on_terminal(argv, terminal)

    async def _on_terminal(
        self, argv: Sequence[str], terminal: Terminal, env: Mapping[str, str] | None = None
    ) -> tuple[Process, int]:
        master, slave = pty.open_pty(terminal.columns, terminal.rows)
        try:
            # setsid(1) makes the terminal the controlling one, so that a change of size is a signal to the process.
            process = await run.spawn(
                ["/usr/bin/setsid", "--ctty", *argv],
                env=env, stdin=slave, stdout=slave, stderr=slave, cwd=Path("/"), new_session=False, umask=UMASK,
            )  # fmt: skip
        except BaseException:
            os.close(master)
            raise
        finally:
            os.close(slave)
        await _taken_over(process, master)
        return process, master

    def _check_running(self, vmid: int) -> None:
        if self._runtime.monitor(vmid) is None:
            raise WrongState(f"CT {vmid} not running")
        if self._runtime.groups.frozen(self._runtime.group(vmid)):
            raise WrongState(f"CT {vmid} is {GuestState.PAUSED}; resume it first")

    def _attach(self, vmid: int, command: Command, extra: dict[str, str]) -> tuple[list[str], dict[str, str]]:
        """lxc-attach's argument list and environment for a command.

        A variable's value may be secret and goes through the environment, which only root can read; but not one that
        would steer lxc-attach itself.
        """
        self._check_running(vmid)
        if not command.argv or not command.argv[0]:
            raise InvalidParameter({"command": "property is missing and it is not optional"})
        words = list(command.argv)
        if command.cwd is not None:
            words = ["/bin/sh", "-c", _CHANGE_FOLDER, command.cwd, *words]
        argv = [*self._runtime.tool("/usr/bin/lxc-attach", vmid), "--clear-env"]
        kept: dict[str, str] = {}
        for name, value in {"PATH": _PATH, **self._identity(vmid, command.uid), **extra, **command.env}.items():
            if not name or "=" in name or "\0" in name + value:
                raise InvalidParameter({"env": f"'{name[:40]}' cannot name a variable"})
            if _STEERS.match(name):
                argv += ["--set-var", f"{name}={value}"]
            else:
                argv += ["--keep-var", name]
                kept[name] = value
        if any("\0" in word for word in words):
            raise InvalidParameter({"command": "a word of a command cannot hold NUL"})
        if command.uid or command.gid:
            argv += ["--uid", str(command.uid), "--gid", str(command.gid)]
        return [*argv, "--", *words], kept

    def _identity(self, vmid: int, uid: int) -> dict[str, str]:
        """HOME and USER of a guest's user, from the guest's own passwd(5)."""
        if uid == 0:
            return {"HOME": "/root", "USER": "root"}
        pid = self._runtime.init_pid(vmid)
        with contextlib.suppress(NotFound):
            if pid is not None:
                with RootDir(Path(f"/proc/{pid}/root")) as root:
                    for line in (root.read_text("/etc/passwd") or "").splitlines():
                        fields = line.split(":")
                        if len(fields) == 7 and fields[2] == str(uid):
                            return {"HOME": fields[5], "USER": fields[0]}
        return {"HOME": "/", "USER": str(uid)}


async def _taken_over(process: Process, master: int) -> None:
    """Wait until the tool has made the terminal raw: it throws away what was typed before that (TCSAFLUSH).

    The guest's own terminal ends lines with carriage returns already; this one shall not add any.
    """
    with contextlib.suppress(TimeoutError, termios.error):
        async with asyncio.timeout(_TAKE_OVER_DEADLINE):
            while process.returncode is None and not pty.is_raw(master):  # noqa: ASYNC110 - nothing tells
                await asyncio.sleep(0.002)
        pty.leave_output_alone(master)


async def output(process: Process) -> tuple[int, str]:
    """Wait for a process started by `execute`: its exit code and what it wrote, together."""
    out, err = await process.communicate()
    return process.returncode or 0, (out + err).decode(errors="replace")


async def finish(process: Process, deadline: float) -> tuple[int, str]:
    """As `output`, but kill it at the deadline. Raises TimeoutError."""
    try:
        async with asyncio.timeout(deadline):
            return await output(process)
    except TimeoutError:
        await run.kill_group(process)
        raise
