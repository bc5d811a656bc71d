"""Clients nobody here wrote, run as programs against a host: Ansible's modules and inventory, fence_pve, proxctl.

Each has an environment of its own, without the caller's certificates, which would defeat "do not verify". Secrets are
neither in arguments nor in files that others may read.
"""

import base64
import fcntl
import json
import re
import secrets
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from framework.host import CACHE, Host

USER, TOKEN = "ada@pve", "t"
PROGRAMS = Path(sys.executable).parent
BUNDLE = Path(__file__).parents[1] / "conformance/ansible-bundle.txt"
"""The package that holds the collection of modules for Proxmox VE, with its hash, as pip reads it."""
COLLECTION = "ansible_collections/community/proxmox/"

Task = tuple[str, Mapping[str, object]]
"""(module, arguments)."""


@dataclass(frozen=True, slots=True)
class Login:
    """A user who may do everything, and a token of theirs."""

    password: str
    token: str

    @classmethod
    def make(cls, host: Host) -> "Login":
        """On a fresh host."""
        password = secrets.token_urlsafe(16)
        host.post("/access/users", userid=USER, password=password)
        host.put("/access/acl", path="/", users=USER, roles="Administrator")
        return cls(password, host.post(f"/access/users/{USER}/token/{TOKEN}", privsep=0)["value"])


def environment(**more: str) -> dict[str, str]:
    """What a client runs in."""
    return {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "HOME": "/nonexistent", **more}


def run(
    argv: Sequence[str | Path], env: Mapping[str, str], data: str = "", seconds: float = 240
) -> subprocess.CompletedProcess[str]:
    """Run a client; `data` is its standard input."""
    return subprocess.run(argv, env=env, input=data, capture_output=True, text=True, timeout=seconds, check=False)


class Ansible:
    """ansible-core with the collection community.proxmox."""

    def __init__(self, host: Host, login: Login, folder: Path) -> None:
        self.host = host
        self.folder = folder
        (folder / "ansible.cfg").touch()
        self._env = environment(
            HOME=str(folder),
            ANSIBLE_HOME=str(folder / "ansible"),
            ANSIBLE_CONFIG=str(folder / "ansible.cfg"),
            ANSIBLE_COLLECTIONS_PATH=str(collections()),
            ANSIBLE_PYTHON_INTERPRETER=sys.executable,
            ANSIBLE_PIPELINING="1",
            ANSIBLE_LOCALHOST_WARNING="0",
            PROXMOX_HOST="127.0.0.1",
            PROXMOX_PORT=str(host.port),
            PROXMOX_URL=f"https://127.0.0.1:{host.port}",
            PROXMOX_USER=USER,
            PROXMOX_TOKEN_ID=TOKEN,
            PROXMOX_TOKEN_SECRET=login.token,
        )

    def play(self, *tasks: Task) -> list[dict[str, Any]]:
        """Run tasks one after another, failed ones too; their results."""
        steps: list[dict[str, Any]] = [
            {f"community.proxmox.{module}": dict(values), "register": f"r{number}", "ignore_errors": True}
            for number, (module, values) in enumerate(tasks)
        ]
        results = ", ".join(f"r{number}" for number in range(len(tasks)))
        # Printed by the controller itself: a module would cost a second, and the text of one may hold anything.
        steps.append({"ansible.builtin.debug": {"msg": f"RESULTS {{{{ [{results}] | to_json | b64encode }}}} END"}})
        book = self.folder / "play.json"
        book.write_text(json.dumps([{"hosts": "localhost", "gather_facts": False, "tasks": steps}]))
        done = run([PROGRAMS / "ansible-playbook", "-i", "localhost,", "-c", "local", book], self._env, seconds=900)
        printed = re.search(r"RESULTS ([A-Za-z0-9+/=]+) END", done.stdout)
        assert done.returncode == 0, done.stdout + done.stderr
        assert printed is not None, done.stdout
        found: list[dict[str, Any]] = json.loads(base64.b64decode(printed[1]))
        return found

    def inventory(self, **options: object) -> dict[str, Any]:
        """What the inventory plugin says, as `ansible-inventory --list` prints it."""
        source = self.folder / "test.proxmox.yml"
        source.write_text(json.dumps({"plugin": "community.proxmox.proxmox", "validate_certs": False, **options}))
        done = run([PROGRAMS / "ansible-inventory", "-i", source, "--list"], self._env)
        assert done.returncode == 0, done.stderr
        assert "Failed to parse" not in done.stderr, done.stderr
        # Each text from outside is printed as an object, which says that it is not to be taken for a template.
        found: dict[str, Any] = json.loads(done.stdout, object_hook=lambda one: one.get("__ansible_unsafe", one))
        return found


def fence(host: Host, login: Login, action: str, vmid: int | str = "", **options: object) -> (
    subprocess.CompletedProcess[str]
):  # fmt: skip
    """fence_pve, its options on standard input as a cluster gives them."""
    values = {
        "ip": "127.0.0.1", "ipport": host.port, "username": USER, "password": login.password, "ssl_insecure": 1,
        "pve_node": host.node, "action": action, "plug": vmid, "power_timeout": 30, **options,
    }  # fmt: skip
    data = "".join(f"{key}={value}\n" for key, value in values.items() if value != "")
    return run(["/usr/sbin/fence_pve"], environment(), data)


def proxctl(host: Host, login: Login, *arguments: object, data: str = "") -> subprocess.CompletedProcess[str]:
    """proxctl, which answers in JSON."""
    env = environment(
        PROXMOX_HOST=f"127.0.0.1:{host.port}", PROXMOX_TOKEN=f"{USER}!{TOKEN}={login.token}", PROXMOX_NODE=host.node
    )
    argv = [PROGRAMS / "proxctl", *map(str, arguments), "--insecure", "--yes", "--output", "json"]
    return run(argv, env, data)


def collections() -> Path:
    """A folder with the collection: fetched once on this machine, its hash checked by pip."""
    digest = re.findall(r"sha256:([0-9a-f]{64})", BUNDLE.read_text())[0]
    target = CACHE / f"ansible-{digest[:16]}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "ansible.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.is_dir():
            _fetch_collection(target)
    return target


def _fetch_collection(target: Path) -> None:
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        subprocess.run(
            [sys.executable, "-I", "-m", "pip", "--disable-pip-version-check", "--no-input", "--quiet", "download",
             "--no-deps", "--only-binary", ":all:", "--require-hashes", "--requirement", BUNDLE, "--dest", folder],
            check=True, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(
                Path(folder, "out"), [name for name in archive.namelist() if name.startswith(COLLECTION)]
            )
        Path(folder, "out").rename(target)
