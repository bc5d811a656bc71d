"""Templates made from this host's own package sources, and what is left of a build that is stopped or killed."""

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from framework.host import Host, TaskFailed

pytestmark = pytest.mark.system


def _listing(path: Path) -> dict[str, str]:
    """{name: the first column of `tar -tv`} of a template."""
    argv = ["tar", "-I", "zstd", "-tv", "-f", str(path)]
    lines = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.splitlines()
    return {line.split(maxsplit=5)[5].partition(" -> ")[0]: line.split()[0] for line in lines}


def _template_path(host: Host) -> Path:
    return host.root / "state/storage/template/cache" / host.template().rpartition("/")[2]


def test_a_template_is_small_clean_and_described(host: Host) -> None:
    path = _template_path(host)
    files = _listing(path)
    assert not [name for name, mode in files.items() if mode[0] in "bc"], "no device nodes"
    assert not [name for name in files if name.startswith("./etc/ssh/ssh_host_")], "no host's keys"
    assert "./etc/resolv.conf" not in files
    assert "./etc/hostname" not in files
    assert not [name for name in files if name.startswith("./var/lib/apt/lists/") and name.endswith("Packages")]
    for needed in ("./usr/sbin/sshd", "./usr/bin/ping", "./etc/apt/sources.list.d/", "./etc/machine-id"):
        assert needed in files or needed.replace("/usr/", "/") in files
    assert path.stat().st_size < 80_000_000
    manifest = json.loads(path.with_name(f"{path.name}.manifest.json").read_text())
    assert manifest["size"] == path.stat().st_size
    assert manifest["packages"]["systemd"]
    digest = subprocess.run(["sha256sum", str(path)], capture_output=True, text=True, check=True).stdout.split()[0]
    assert manifest["sha256"] == digest
    assert oct(path.stat().st_mode & 0o077) == "0o0"
    rows = host.get("/bastide/images")
    assert [row["alias"] for row in rows if row["volid"] == host.template()] == ["debian-12"]


def test_a_second_build_takes_the_first_ones_template(host: Host) -> None:
    os.utime(_template_path(host))
    before = len(host.get("/bastide/images"))
    started = time.monotonic()
    log = host.wait(host.post("/bastide/images/build", name="debian/bookworm"))
    assert "was built within" in log
    assert time.monotonic() - started < 5
    assert len(host.get("/bastide/images")) == before


def test_a_container_of_it_starts_without_a_failed_unit(host: Host) -> None:
    vmid = host.create(start=True)
    state = host.wait_booted(vmid)
    failed = host.execute(vmid, "systemctl", "--failed", "--plain", "--no-legend", check=False)
    assert (state, failed.strip()) == ("running", "")
    host.wait(host.delete(host.path(vmid), force=1))


@pytest.mark.parametrize("kind", ["lxc", "qemu"])
def test_a_build_that_is_stopped_or_killed_leaves_nothing(own_host: Host, kind: str) -> None:
    host = own_host
    stopped = host.post("/bastide/images/build", name="debian-12", kind=kind, force=1)
    _wait_for_line(host, stopped, "extracting archives")
    host.delete(f"/nodes/{host.node}/tasks/{stopped}")
    with pytest.raises(TaskFailed):
        host.wait(stopped)
    assert _left(host) == []
    killed = host.post("/bastide/images/build", name="debian-12", kind=kind, force=1)
    _wait_for_line(host, killed, "extracting archives")
    host.kill()
    _wait_until(lambda: _processes(host) == [], 10)
    host.start()
    with pytest.raises(TaskFailed, match="interrupted"):
        host.wait(killed)
    assert _left(host) == []
    assert str(host.root) not in Path("/proc/self/mountinfo").read_text()


def _wait_for_line(host: Host, upid: str, text: str) -> None:
    def seen() -> bool:
        lines = [line["t"] for line in host.get(f"/nodes/{host.node}/tasks/{upid}/log", limit=500)]
        assert not lines or not lines[-1].startswith("TASK "), lines[-1]
        return any(text in line for line in lines)

    _wait_until(seen, 120)


def _wait_until(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _processes(host: Host) -> list[str]:
    """Processes of a build in the host's folder."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if f"{host.root}/state/storage" in command:
            found.append(command)
    return found


def _left(host: Host) -> list[str]:
    storage = host.root / "state/storage"
    files = [
        *(storage / ".incoming").iterdir(),
        *(storage / ".trash").iterdir(),
        *(storage / "template/cache").iterdir(),
        *(storage / "import").iterdir(),
    ]
    return [*map(str, files), *_processes(host)]
