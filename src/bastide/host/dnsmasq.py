"""A dnsmasq(8) of ours: a process of its own that outlives the daemon and is found again by its command line."""

import asyncio
import contextlib
import os
import pwd
import signal
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from bastide.base.errors import HostFailure
from bastide.host.run import run

_STOP_SECONDS = 5.0
_DHCP_SERVER_PORT = 67
_SO_BINDTODEVICE = 25


def service_user() -> str:
    """The account that dnsmasq drops to: its own where the package made one, else nobody."""
    for name in ("dnsmasq", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    raise HostFailure("this host has neither an account dnsmasq nor nobody")


@dataclass(frozen=True, slots=True)
class Dnsmasq:
    """One dnsmasq, known by its configuration file, which no other process has on its command line."""

    config: Path
    pid_file: Path

    @property
    def argv(self) -> list[str]:
        """The command line; it is also how the process is recognized."""
        return ["dnsmasq", f"--conf-file={self.config}"]

    async def start(self) -> None:
        """Start it and return when it serves: dnsmasq goes to the background after its sockets are open.

        Raises RunError with its complaint, NotSupported when it is not installed.
        """
        await run(self.argv, deadline=20)

    def pid(self) -> int | None:
        """Its process id while it runs."""
        with self._opened() as found:
            return found[0] if found else None

    def reload(self) -> bool:
        """Make it read its host files again (SIGHUP); False when it does not run."""
        with self._opened() as found:
            if found:
                signal.pidfd_send_signal(found[1], signal.SIGHUP)
            return bool(found)

    async def stop(self) -> None:
        """End it and wait until it is gone; one that does not run is fine."""
        with self._opened() as found:
            if found is None:
                return
            for number in (signal.SIGTERM, signal.SIGKILL):
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(found[1], number)
                if await ended(found[1], _STOP_SECONDS):
                    break
        self.pid_file.unlink(missing_ok=True)

    async def wait(self) -> None:
        """Return when it has ended, at once when it does not run."""
        with self._opened() as found:
            if found:
                await ended(found[1], None)

    @contextlib.contextmanager
    def _opened(self) -> Iterator[tuple[int, int] | None]:
        """Its process id and a pidfd on it: the descriptor keeps the id from being another's meanwhile."""
        try:
            pid = int(self.pid_file.read_text())
            descriptor = os.pidfd_open(pid)
        except (OSError, ValueError):
            yield None
            return
        try:
            yield (pid, descriptor) if self._is_ours(pid) else None
        finally:
            os.close(descriptor)

    def _is_ours(self, pid: int) -> bool:
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            return False
        return Path(words[0].decode(errors="replace")).name == "dnsmasq" and self.argv[1].encode() in words


async def ended(pidfd: int, seconds: float | None) -> bool:
    """Wait until a process has ended, at most so many seconds; whether it has (pidfd_open(2))."""
    loop = asyncio.get_running_loop()
    done = asyncio.Event()
    loop.add_reader(pidfd, done.set)
    try:
        async with asyncio.timeout(seconds):
            await done.wait()
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(pidfd)
    return True


def release(interface: str, server: IPv4Address, client: IPv4Address, hwaddr: str) -> None:
    """Give an address back in a client's name: a DHCPRELEASE (RFC 2131, 4.4.6) to our own server."""
    address = bytes.fromhex(hwaddr.replace(":", ""))
    header = struct.pack("!BBBBIHH4s4s4s4s16s", 1, 1, 6, 0, 1, 0, 0, client.packed, b"", b"", b"", address)
    options = b"\x63\x82\x53\x63" + b"\x35\x01\x07" + b"\x36\x04" + server.packed + b"\xff"
    packet = (header + bytes(192) + options).ljust(300, b"\0")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        sock.setsockopt(socket.SOL_SOCKET, _SO_BINDTODEVICE, interface.encode())
        sock.sendto(packet, (str(server), _DHCP_SERVER_PORT))
