"""A host of its own in network namespaces, with the world on one side: to try what would change this machine.

`host` has a default route through `world`; further namespaces (guests, other networks) hang on it by veth pairs.
Functions of a test module run inside with `Lab.run`, in a process whose /sys shows the namespace (ip-netns(8)).
"""

import os
import re
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
WORLD4, WORLD6 = "203.0.113.9", "2001:db8:9::9"


def sh(command: str, *, check: bool = True) -> str:
    """Run a line of words and return what it printed."""
    done = subprocess.run(command.split(), capture_output=True, text=True, check=False)
    if check and done.returncode != 0:
        raise AssertionError(f"{command}: {done.stdout}{done.stderr}")
    return done.stdout


class Lab:
    """The namespaces of one test; names are random, so that tests run side by side.

    A lab with a `tag` given is one that exists: what runs inside it makes its own handle so.
    """

    def __init__(self, tag: str | None = None) -> None:
        self.tag = tag or secrets.token_hex(3)
        self.host, self.world = f"bst{self.tag}h", f"bst{self.tag}w"
        if tag is None:
            self._make()

    def _make(self) -> None:
        self.add("h")
        self.add("w")
        sh(f"ip -n {self.host} link add up0 type veth peer name w0 netns {self.world}")
        for space, device, last in ((self.world, "w0", 1), (self.host, "up0", 2)):
            sh(f"ip -n {space} addr add 198.51.100.{last}/24 dev {device}")
            sh(f"ip -n {space} addr add 2001:db8:1::{last}/64 dev {device} nodad")
            sh(f"ip -n {space} link set {device} up")
        sh(f"ip -n {self.world} addr add {WORLD4}/32 dev lo")
        sh(f"ip -n {self.world} addr add {WORLD6}/128 dev lo nodad")
        sh(f"ip -n {self.host} route add default via 198.51.100.1")
        sh(f"ip -n {self.host} -6 route add default via 2001:db8:1::1")

    def add(self, kind: str) -> str:
        """Make a namespace and return its name."""
        name = f"bst{self.tag}{kind}"
        sh(f"ip netns add {name}")
        sh(f"ip -n {name} link set lo up")
        return name

    def guest(self, kind: str, host_end: str, hwaddr: str) -> str:
        """Make a namespace whose `eth0` is joined to `host_end` on the host."""
        name = self.add(kind)
        sh(f"ip -n {self.host} link add {host_end} type veth peer name eth0 address {hwaddr} netns {name}")
        sh(f"ip -n {name} link set eth0 up")
        return name

    def inside(self, name: str, command: str, *, check: bool = True) -> str:
        """Run a command in a namespace and return what it printed."""
        return sh(f"ip netns exec {name} {command}", check=check)

    def reaches(self, name: str, address: str) -> bool:
        """Whether one of two pings from a namespace is answered."""
        return " bytes from " in self.inside(name, f"busybox ping -c 2 -W 1 -A {address}", check=False)

    def dhcp(self, name: str, *options: str) -> str:
        """Ask for an address on `eth0`, set it up, and return it."""
        asked = ["ip", "netns", "exec", name, "busybox", "udhcpc", "-i", "eth0", "-n", "-q", "-t", "5", "-T", "1"]
        done = subprocess.run([*asked, "-s", "/bin/true", *options], capture_output=True, text=True, check=False)
        found = re.search(r"lease of (\S+) obtained from ([^,\s]+)", done.stdout + done.stderr)
        assert found, f"no lease: {done.stdout}{done.stderr}"
        self.inside(name, f"ip addr replace {found[1]}/24 dev eth0")
        self.inside(name, f"ip route replace default via {found[2]}")
        return found[1]

    def run(self, module: str, function: str, *words: str) -> str:
        """Call `await module.function(*words)` in a process of the host's namespace; returns what it printed."""
        code = (
            "import asyncio, importlib, logging, sys; logging.basicConfig(level='INFO');"
            "asyncio.run(getattr(importlib.import_module(sys.argv[1]), sys.argv[2])(*sys.argv[3:]))"
        )
        paths = os.pathsep.join(str(REPOSITORY / part) for part in ("src", "tests", "tests/system"))
        done = subprocess.run(
            ["ip", "netns", "exec", self.host, sys.executable, "-c", code, module, function, *words],
            env={**os.environ, "PYTHONPATH": paths},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def close(self) -> None:
        """Remove the namespaces with everything in them."""
        for line in sh("ip netns list").splitlines():
            if line.startswith(f"bst{self.tag}"):
                for pid in sh(f"ip netns pids {line.split()[0]}").split():
                    with suppress(ProcessLookupError):
                        os.kill(int(pid), signal.SIGKILL)
                sh(f"ip netns del {line.split()[0]}", check=False)


@contextmanager
def lab() -> Iterator[Lab]:
    """A lab for the length of a block."""
    made = Lab()
    try:
        yield made
    finally:
        made.close()
