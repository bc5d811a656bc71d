"""A network of the browser's own, in which nothing comes or goes.

Chromium ends whatever is about to connect with ERR_NETWORK_CHANGED when the machine gets or loses an interface, and
each guest that starts brings one. Here it sees `lo` alone, at which ports of this machine are handed through to it.
"""

import contextlib
import ctypes
import os
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

_CLONE_NEWNET = 0x40000000
_PIECE = 65536
_libc = ctypes.CDLL(None, use_errno=True)


class QuietNetwork:
    """A network namespace, held by a process."""

    def __init__(self, holder: subprocess.Popen[str], folder: Path) -> None:
        self._holder = holder
        self._folder = folder
        self._reached: dict[tuple[str, int], socket.socket] = {}

    def program(self, path: str) -> Path:
        """A program that starts the one at `path` in this network."""
        script = self._folder / Path(path).name
        script.write_text(f'#!/bin/sh\nexec nsenter --net={self._namespace} -- {path} "$@"\n')
        script.chmod(0o755)
        return script

    def reach(self, port: int, address: str = "127.0.0.1") -> None:
        """Hand a port of this machine, or of a guest's address, through; once is enough."""
        if (address, port) in self._reached:
            return
        if not address.startswith("127."):
            command = ["nsenter", f"--net={self._namespace}", "ip", "address", "add", f"{address}/32", "dev", "lo"]
            subprocess.run(command, check=False, capture_output=True)  # it may be there for another port
        listener = self._listener(address, port)
        self._reached[address, port] = listener
        _in_background(lambda: _hand_through(listener, (address, port)))

    def close(self) -> None:
        """End it."""
        for listener in self._reached.values():
            listener.shutdown(socket.SHUT_RDWR)  # which wakes who accepts there
            listener.close()
        self._holder.kill()
        self._holder.wait()

    @property
    def _namespace(self) -> str:
        return f"/proc/{self._holder.pid}/ns/net"

    def _listener(self, address: str, port: int) -> socket.socket:
        """A socket that listens in there: sockets stay in the network in which their thread made them."""
        made: list[socket.socket] = []

        def make() -> None:
            namespace = os.open(self._namespace, os.O_RDONLY)
            try:
                if _libc.setns(namespace, _CLONE_NEWNET) == 0:
                    made.append(socket.create_server((address, port)))
            finally:
                os.close(namespace)

        thread = threading.Thread(target=make)
        thread.start()
        thread.join()
        if not made:
            raise OSError(f"nothing can listen at {address}:{port} in the browser's network")
        return made[0]


@contextlib.contextmanager
def quiet_network() -> Iterator[QuietNetwork]:
    """A fresh one; needs root."""
    command = ["unshare", "--net", "sh", "-c", "ip link set lo up && echo up && exec sleep infinity"]
    with tempfile.TemporaryDirectory(prefix="bst-browser-") as folder:
        holder = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        network = QuietNetwork(holder, Path(folder))
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "up\n"
            yield network
        finally:
            network.close()


def _hand_through(listener: socket.socket, target: tuple[str, int]) -> None:
    with contextlib.suppress(OSError):  # it was closed
        while True:
            near, _ = listener.accept()
            _in_background(lambda near=near: _join(near, target))


def _join(near: socket.socket, target: tuple[str, int]) -> None:
    with near, contextlib.suppress(OSError), socket.create_connection(target) as far:
        back = _in_background(lambda: _pump(far, near))
        _pump(near, far)
        back.join()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    """Move bytes until one side ends; then the other is told."""
    with contextlib.suppress(OSError):
        while piece := source.recv(_PIECE):
            sink.sendall(piece)
    for end in (source, sink):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def _in_background(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread
