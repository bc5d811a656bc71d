"""A guest agent whose guest is this machine: it runs commands and opens files here, as QEMU's agent would in a VM."""

import base64
import subprocess
from types import SimpleNamespace
from typing import Any, BinaryIO

from bastide.base.errors import HostFailure
from bastide.model.guest import Guest, GuestState

VM = Guest(100, "qemu", "pve", {"name": "db", "agent": "1"})


class GuestAgent:
    """Answers as qemu-ga does. `failures` maps a command to the error that it raises; `asked` notes the commands."""

    def __init__(self) -> None:
        self.processes: dict[int, subprocess.Popen[bytes]] = {}
        self.files: dict[int, BinaryIO] = {}
        self.failures: dict[str, Exception] = {}
        self.answers: dict[str, Any] = {"guest-ping": {}, "guest-get-osinfo": {"id": "debian"}}
        self.asked: list[str] = []

    async def ask(self, _vmid: int, command: str, arguments: Any = None, *, deadline: float) -> Any:
        """One command's answer."""
        self.asked.append(command)
        if command in self.failures:
            raise self.failures[command]
        if command in self.answers:
            return self.answers[command]
        act = getattr(self, command.removeprefix("guest-").replace("-", "_"))
        try:
            return act(**{key.replace("-", "_"): value for key, value in (arguments or {}).items()})
        except OSError as error:
            raise HostFailure(f"the guest agent refused {command}: {error.strerror}") from None

    def exec(self, path: str, arg: list[str], capture_output: bool, input_data: str = "") -> Any:
        pipe = subprocess.PIPE if capture_output else subprocess.DEVNULL
        process = subprocess.Popen([path, *arg], stdin=subprocess.PIPE, stdout=pipe, stderr=pipe)
        assert process.stdin is not None
        process.stdin.write(base64.b64decode(input_data))
        process.stdin.close()
        self.processes[process.pid] = process
        return {"pid": process.pid}

    def exec_status(self, pid: int) -> Any:
        process = self.processes[pid]
        if process.poll() is None:
            return {"exited": False}
        del self.processes[pid]
        row: dict[str, Any] = {"exited": True}
        row |= {"signal": -process.returncode} if process.returncode < 0 else {"exitcode": process.returncode}
        for key, stream in (("out-data", process.stdout), ("err-data", process.stderr)):
            assert stream is not None
            with stream:
                data = stream.read()
            row |= {key: base64.b64encode(data).decode()} if data else {}
        return row

    def file_open(self, path: str, mode: str) -> int:
        file = open(path, mode, buffering=0)  # noqa: SIM115 - file_close does
        self.files[file.fileno()] = file
        return file.fileno()

    def file_seek(self, handle: int, offset: int, whence: str) -> Any:
        return {"position": self.files[handle].seek(offset, {"set": 0, "cur": 1, "end": 2}[whence]), "eof": False}

    def file_read(self, handle: int, count: int) -> Any:
        data = self.files[handle].read(count)
        return {"count": len(data), "buf-b64": base64.b64encode(data).decode(), "eof": len(data) < count}

    def file_write(self, handle: int, buf_b64: str) -> Any:
        return {"count": self.files[handle].write(base64.b64decode(buf_b64)), "eof": False}

    def file_flush(self, handle: int) -> Any:
        self.files[handle].flush()
        return {}

    def file_close(self, handle: int) -> Any:
        self.files.pop(handle).close()
        return {}

    def close(self) -> None:
        """End what still runs."""
        for process in self.processes.values():
            process.kill()
            process.wait()
            for stream in (process.stdout, process.stderr):
                if stream is not None:
                    stream.close()


def rooms_with(agent: GuestAgent, state: GuestState = GuestState.RUNNING) -> Any:
    """Rooms with one VM in this state, whose agent it is."""

    async def get(_vmid: int, _kind: str | None = None) -> Guest:
        return VM

    vms = SimpleNamespace(state=lambda _vmid: state, ask=agent.ask)
    return SimpleNamespace(guests=SimpleNamespace(get=get), vms=vms)
