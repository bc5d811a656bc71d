"""The same VM by hand: QEMU with the arguments of a VM of a host's, without its walls, and a few lines of QMP."""

import fcntl
import json
import os
import re
import shutil
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# linux/if_tun.h
_TUNSETIFF = 0x400454CA
_IFF_TAP, _IFF_NO_PI, _IFF_VNET_HDR = 0x0002, 0x1000, 0x4000


def arguments_of(pid: int) -> list[str]:
    """The arguments of a running process."""
    return Path(f"/proc/{pid}/cmdline").read_bytes().decode().rstrip("\0").split("\0")


def memory(pid: int) -> dict[str, float]:
    """MiB of a process: `Rss`, `Pss` (shared pages divided by who share them) and `Private`."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    found = {key: int(kib) / 1024 for key, kib in re.findall(r"^(\w+): +(\d+) kB", text, re.MULTILINE)}
    return {"Rss": found["Rss"], "Pss": found["Pss"], "Private": found["Private_Clean"] + found["Private_Dirty"]}


class PlainVm:
    """One VM. `disks` are the images by key (`scsi0`), which must be what the arguments say."""

    def __init__(self, arguments: list[str], disks: Mapping[str, Path], bridge: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="plain-", dir="/var/tmp"))
        self.pid = 0
        self._arguments, self._disks, self._bridge = arguments, disks, bridge
        self._open: list[int] = []
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; returns when QEMU says that it runs."""
        text = json.dumps(self._arguments)
        argv = [self._opened(argument, text) for argument in self._arguments]
        self._process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, pass_fds=self._open)
        for number in self._open:
            os.close(number)
        self._open.clear()
        self.pid = self._process.pid
        with socket.socket(socket.AF_UNIX) as qmp:
            qmp.connect(str(self.folder / "qmp"))
            lines = qmp.makefile("rw")
            lines.readline()
            for command in ("qmp_capabilities", "cont"):
                _execute(lines, command)
            while _execute(lines, "query-status")["status"] != "running":
                time.sleep(0.01)

    def wait_agent(self, seconds: float = 600) -> None:
        """Wait until the agent in the guest answers."""
        deadline = time.monotonic() + seconds
        with socket.socket(socket.AF_UNIX) as agent:
            agent.connect(str(self.folder / "qga"))
            agent.settimeout(0.5)
            while time.monotonic() < deadline:
                try:
                    # QEMU takes nothing until the guest has opened its port: then this fills up.
                    agent.sendall(b'{"execute":"guest-ping"}\n')
                    if b"return" in agent.recv(4096):
                        return
                except TimeoutError:
                    continue
        raise AssertionError("the agent does not answer")

    def stop(self) -> None:
        """End it and remove what it had."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _opened(self, argument: str, everything: str) -> str:
        """An argument with a descriptor of ours in it."""
        disk = re.fullmatch(r"fd=\d+,set=(\d+),opaque=(\w+)", argument)
        if disk is not None:
            read_only = f'\\"/dev/fdset/{disk[1]}\\",\\"aio\\":\\"threads\\",\\"read-only\\":true' in everything
            return f"fd={self._keep(os.open(self._disks[disk[2]], os.O_RDONLY if read_only else os.O_RDWR))}," + (
                f"set={disk[1]},opaque={disk[2]}"
            )
        listener = re.fullmatch(r"socket,id=(\w+),fd=\d+,server=on,wait=off", argument)
        if listener is not None:
            return f"socket,id={listener[1]},fd={self._keep(self._listen(listener[1]))},server=on,wait=off"
        card = re.fullmatch(r'(\{"type":"tap","id":"\w+","fd":")\d+("\})', argument)
        return argument if card is None else f"{card[1]}{self._keep(self._tap())}{card[2]}"

    def _keep(self, number: int) -> int:
        self._open.append(number)
        return number

    def _listen(self, name: str) -> int:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(self.folder / name))
        listener.listen(1)
        return listener.detach()

    def _tap(self) -> int:
        name = f"pl{os.getpid() % 100000}x{len(self._open)}"
        number = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(number, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR))
        subprocess.run(["ip", "link", "set", name, "master", self._bridge, "up"], check=True)
        return number


def _execute(lines: Any, command: str) -> Any:
    """One QMP command; events in between are passed by."""
    lines.write(json.dumps({"execute": command}) + "\n")
    lines.flush()
    while True:
        answer = json.loads(lines.readline())
        assert "error" not in answer, answer
        if "return" in answer:
            return answer["return"]
