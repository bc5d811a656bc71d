"""A real Bastide in a folder of its own, driven through its public API and command line.

    with Host.launched() as host:
        upid = host.post(f"/nodes/{host.node}/lxc", vmid=1000, ostemplate=..., unprivileged=1)
        host.wait(upid)

Everything it makes (guests, bridge, nftables table, processes, folder) is gone when the block ends; when a test
fails, its logs are printed.
"""

import contextlib
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from bastide.base.layout import Layout
from framework.nursery import Born, Nursery
from framework.patience import PATIENCE
from framework.screen import read_text

REPOSITORY = Path(__file__).resolve().parents[2]
CACHE = Path("/var/cache/bastide-tests")
IMAGE = "debian-12"
LXC_PATH = Path("/run")


class ApiFailure(Exception):
    """An answer that is not a success."""

    def __init__(self, answer: httpx.Response) -> None:
        self.status = answer.status_code
        self.reason = answer.reason_phrase
        body = answer.json() if answer.content else {}
        self.message = str(body.get("message", "")).strip()
        self.errors = body.get("errors") or {}
        super().__init__(f"{self.status} {self.message} {self.errors or ''}")


class TaskFailed(Exception):
    """A task that did not end with OK."""


_PURGES = 3
"""Tries: on a busy machine a daemon may not answer in time, and what is not purged stays on it."""


class Host:
    """One daemon with its folder, bridge and ports."""

    def __init__(self, root: Path, number: int) -> None:
        self.root = root
        self.port = _free_port()
        self.bridge = f"bst{os.getpid() % 100000}x{number}"
        self.node = "testnode"
        self.first_vmid = 100_000 + (os.getpid() % 5000) * 1000 + number * 100
        self._vmid = self.first_vmid
        self._vms: set[int] = set()
        self.process: subprocess.Popen[bytes] | Born | None = None
        transport = httpx.HTTPTransport(uds=str(root / "run/api.sock"))
        self.http = httpx.Client(transport=transport, base_url="http://local/api2/json", timeout=90 * PATIENCE)

    @classmethod
    @contextlib.contextmanager
    def launched(cls, number: int = 0, node: str = "testnode") -> Iterator["Host"]:
        """A fresh host of that name that answers."""
        root = Path(tempfile.mkdtemp(prefix="bst-", dir="/var/tmp"))  # short: UNIX socket paths end at 107 bytes
        host = cls(root, number)
        host.node = node
        try:
            host.start()
            yield host
        finally:
            host.dispose()

    # the daemon

    def environment(self) -> dict[str, str]:
        """What the program runs in."""
        return {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "PYTHONPATH": str(REPOSITORY / "src"),
            "BASTIDE_ROOT": str(self.root),
            "HOME": "/root",
            "TERM": "dumb",
        }

    def start(self, nursery: Nursery | None = None) -> None:
        """Start the daemon, by a nursery if there is one, and wait until it answers."""
        (self.root / "log").mkdir(exist_ok=True, mode=0o700)
        file = self.root / "log/daemon.log"
        arguments = ["--root", str(self.root), "--port", str(self.port), "--node", self.node,
                     "--bridge", self.bridge, "--listen", "127.0.0.1"]  # fmt: skip
        if nursery is not None:
            self.process = nursery.daemon(arguments, self.environment(), file)
        else:
            with file.open("ab") as log:
                self.process = subprocess.Popen(
                    [sys.executable, "-m", "bastide.daemon", *arguments],
                    stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.environment(), start_new_session=True,
                )  # fmt: skip
        deadline = time.monotonic() + 60 * PATIENCE
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"the daemon died:\n{self.daemon_log()}")
            with contextlib.suppress(httpx.TransportError):
                self.get("/version")
                return
            time.sleep(0.02)
        raise RuntimeError(f"the daemon does not answer:\n{self.daemon_log()}")

    def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """A clean end of the daemon; guests go on."""
        assert self.process is not None
        self.process.terminate()
        self.process.wait(timeout=30 * PATIENCE)

    def dispose(self) -> None:
        """Remove everything, whatever state it is in."""
        with contextlib.suppress(Exception):
            if self.process is None or self.process.poll() is not None:
                self.start()
            for kind in ("lxc", "qemu"):
                for guest in self.get(f"/nodes/{self.node}/{kind}"):
                    self._remove(f"/nodes/{self.node}/{kind}/{guest['vmid']}")
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout=30 * PATIENCE)
            if self.process.poll() is None:
                self.process.kill()
        for _ in range(_PURGES):
            purged = self.cli("down", "--purge", "--yes", "--force", check=False)
            if purged.returncode == 0:
                break
            sys.stderr.write(f"down --purge failed: {purged.stdout}{purged.stderr}\n")
        shutil.rmtree(self.root, ignore_errors=True)

    def remove(self, vmid: int) -> None:
        """Stop a guest and remove it, protected or not."""
        self._remove(self.path(vmid))

    def _remove(self, path: str) -> None:
        with contextlib.suppress(ApiFailure, TaskFailed):
            self.put(f"{path}/config", protection=0)
        with contextlib.suppress(ApiFailure, TaskFailed):
            self.wait(self.post(f"{path}/status/stop"))
        with contextlib.suppress(ApiFailure, TaskFailed):
            self.wait(self.delete(path))

    def daemon_log(self) -> str:
        """The daemon's log so far."""
        return (self.root / "log/daemon.log").read_text(errors="replace")

    def all_logs(self) -> str:
        """Every log of the host: the daemon's and the guests' monitors'."""
        return "\n".join(
            f"==> {path.relative_to(self.root)}\n{path.read_text(errors='replace')[-8000:]}"
            for path in sorted((self.root / "log").rglob("*"))
            if path.is_file()
        )

    # the API

    def request(self, method: str, path: str, /, **parameters: Any) -> Any:
        """One call over the UNIX socket; returns `data`. Raises ApiFailure."""
        values = {key.replace("_", "-"): value for key, value in parameters.items() if value is not None}
        if method in ("GET", "DELETE"):
            answer = self.http.request(method, path, params=values)
        else:
            answer = self.http.request(method, path, data=values)
        if answer.status_code != 200:
            raise ApiFailure(answer)
        return answer.json()["data"]

    def get(self, path: str, /, **parameters: Any) -> Any:
        """GET."""
        return self.request("GET", path, **parameters)

    def post(self, path: str, /, **parameters: Any) -> Any:
        """POST."""
        return self.request("POST", path, **parameters)

    def put(self, path: str, /, **parameters: Any) -> Any:
        """PUT."""
        return self.request("PUT", path, **parameters)

    def delete(self, path: str, /, **parameters: Any) -> Any:
        """DELETE."""
        return self.request("DELETE", path, **parameters)

    def wait(self, upid: str, seconds: float = 120) -> str:
        """Wait for a task; returns its log. Raises TaskFailed with the log when it did not end well."""
        deadline = time.monotonic() + seconds * PATIENCE
        while (status := self.get(f"/bastide/tasks/{upid}", wait=min(seconds, 30)))["status"] != "stopped":
            if time.monotonic() > deadline:
                raise TaskFailed(f"{upid} did not end within {seconds} s")
        log = "\n".join(line["t"] for line in self.get(f"/nodes/{self.node}/tasks/{upid}/log", limit=5000))
        if status["exitstatus"] != "OK" and not status["exitstatus"].startswith("WARNINGS"):
            raise TaskFailed(f"{status['exitstatus']}\n{log}")
        return log

    # guests

    def new_vmid(self) -> int:
        """A vmid no other test uses."""
        self._vmid += 1
        return self._vmid

    def template(self) -> str:
        """The volume id of a Debian 12 template, built once on this machine."""
        return self._image("vztmpl", CACHE, self.root / "state/storage/template/cache", "lxc")

    def vm_image(self) -> str:
        """The volume id of a Debian 12 disk image for VMs, built once on this machine."""
        return self._image("import", CACHE / "import", self.root / "state/storage/import", "qemu")

    def _image(self, content: str, cache: Path, folder: Path, kind: str) -> str:
        found = self._image_in_store(content)
        if found:
            return found
        cache.mkdir(parents=True, exist_ok=True)
        with (CACHE / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            cached = [file for file in cache.glob("debian-12*") if not file.name.endswith(".json")]
            if cached:
                for file in cache.glob("debian-12*"):
                    shutil.copy2(file, folder / file.name)
            else:
                self.wait(self.post("/bastide/images/build", name=IMAGE, kind=kind), 900)
                for file in folder.glob("debian-12*"):
                    shutil.copy2(file, cache / file.name)
        found = self._image_in_store(content)
        assert found, "no image was built"
        return found

    def _image_in_store(self, content: str) -> str | None:
        rows = self.get(f"/nodes/{self.node}/storage/local/content", content=content)
        return next((row["volid"] for row in rows if "debian-12" in row["volid"]), None)

    def create(self, *, start: bool = False, **options: Any) -> int:
        """Make a container from the Debian template; returns its vmid."""
        vmid = self.new_vmid()
        defaults = {
            "ostemplate": self.template(),
            "hostname": f"ct{vmid}",
            "unprivileged": 1,
            "memory": 512,
            "net0": f"name=eth0,bridge={self.bridge},ip=dhcp,ip6=auto",
        }
        self.wait(self.post(f"/nodes/{self.node}/lxc", vmid=vmid, start=int(start), **{**defaults, **options}))
        return vmid

    def create_vm(self, *, start: bool = False, **options: Any) -> int:
        """Make a VM without a system, which shows what its firmware does; returns its vmid."""
        vmid = self.new_vmid()
        self._vms.add(vmid)
        defaults = {"name": f"vm{vmid}", "memory": 64}
        self.wait(self.post(f"/nodes/{self.node}/qemu", vmid=vmid, start=int(start), **{**defaults, **options}))
        return vmid

    def create_debian_vm(self, *, start: bool = True, **options: Any) -> int:
        """Make a VM from the Debian image, with cloud-init and an agent; returns its vmid."""
        defaults = {
            "memory": 768,
            "machine": "q35",
            "scsihw": "virtio-scsi-single",
            "scsi0": f"local:0,import-from={self.vm_image()}",
            "ide2": "local:cloudinit",
            "net0": f"virtio,bridge={self.bridge}",
            "ipconfig0": "ip=dhcp",
            "serial0": "socket",
            "rng0": "source=/dev/urandom",
            "ciupgrade": 0,
            "agent": 1,
            "ostype": "l26",
        }
        return self.create_vm(start=start, **{**defaults, **options})

    def path(self, vmid: int, rest: str = "") -> str:
        """The API path of a guest."""
        return f"/nodes/{self.node}/{'qemu' if vmid in self._vms else 'lxc'}/{vmid}{rest}"

    def screenshot(self, vmid: int) -> bytes:
        """A VM's screen as PNG."""
        answer = self.http.get(f"/bastide/guests/{vmid}/screenshot")
        if answer.status_code != 200:
            raise ApiFailure(answer)
        return answer.content

    def wait_screen(self, vmid: int, text: str, seconds: float = 180) -> str:
        """Wait until a VM's screen shows a text; returns all that it shows."""
        deadline = time.monotonic() + seconds * PATIENCE
        shown = ""
        while time.monotonic() < deadline:
            shown = "\n".join(read_text(self.screenshot(vmid)))
            if text in shown:
                return shown
            time.sleep(0.5)
        raise AssertionError(f"guest {vmid} does not show {text!r}:\n{shown}")

    def wait_agent(self, vmid: int, seconds: float = 400) -> None:
        """Wait until a VM's agent answers."""
        deadline = time.monotonic() + seconds * PATIENCE
        while time.monotonic() < deadline:
            with contextlib.suppress(ApiFailure):
                self.post(self.path(vmid, "/agent/ping"))
                return
            time.sleep(0.5)
        raise AssertionError(f"the agent of guest {vmid} does not answer:\n{self.all_logs()[-2000:]}")

    def lxc_name(self, vmid: int) -> str:
        """What LXC's own tools call a container, with LXC_PATH as their path."""
        return f"{Layout(self.root).instance}-{vmid}"

    def act(self, vmid: int, action: str, **options: Any) -> str:
        """start, stop, shutdown, reboot ... and wait for it."""
        return self.wait(self.post(self.path(vmid, f"/status/{action}"), **options))

    def execute(self, vmid: int, *argv: str, check: bool = True) -> str:
        """Run a command in a guest through the command line; returns its output."""
        return self.cli("exec", str(vmid), "--", *argv, check=check).stdout

    def wait_booted(self, vmid: int, seconds: float = 60) -> str:
        """Wait until the guest's systemd has an answer; returns it (`running`, `degraded`)."""
        deadline = time.monotonic() + seconds * PATIENCE
        state = ""
        while time.monotonic() < deadline:
            state = self.execute(vmid, "systemctl", "is-system-running", check=False).strip()
            if state in ("running", "degraded"):
                return state
            time.sleep(0.2)
        raise AssertionError(f"guest {vmid} did not boot: {state}")

    def wait_address(self, vmid: int, seconds: float = 30) -> str:
        """Wait for an IPv4 address of the guest's that is not loopback."""
        deadline = time.monotonic() + seconds * PATIENCE
        while time.monotonic() < deadline:
            for row in self.get(self.path(vmid, "/interfaces")):
                if row["name"] != "lo" and "inet" in row:
                    return str(row["inet"].partition("/")[0])
            time.sleep(0.05)
        raise AssertionError(f"guest {vmid} has no address")

    def files(self, *without: str) -> Iterator[Path]:
        """What lies below its root, without bases, which come and go, and the folders of these names."""
        for folder, folders, files in os.walk(self.root):
            yield from (Path(folder, name) for name in (*folders, *files))
            folders[:] = [name for name in folders if name not in {".base", *without}]

    # the command line

    def cli(self, *arguments: str, check: bool = True, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run the program. With `check`, a failure raises AssertionError with its output."""
        options.setdefault("input", "")
        done = subprocess.run(
            [sys.executable, "-m", "bastide", *arguments],
            capture_output=True, text=True, env=self.environment(), check=False, timeout=300 * PATIENCE, **options,
        )  # fmt: skip
        if check and done.returncode != 0:
            raise AssertionError(f"bastide {' '.join(arguments)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def cli_json(self, *arguments: str) -> Any:
        """Run the program with --json and parse what it prints."""
        return json.loads(self.cli(*arguments, "--json").stdout)


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
