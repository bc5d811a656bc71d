"""Plans on a real host: made in order, found unchanged, mended, gone on with after kill -9, copied and removed."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from framework.host import ApiFailure, Host

pytestmark = [pytest.mark.system, pytest.mark.timeout(400)]

LAB = """\
name: lab
services:
- {name: web, os: debian-12, memory: 128M, disk: 1G, after: [app]}
- {name: app, os: debian-12, memory: 128M, disk: 1G, after: [cache], mounts: [{path: /srv/data, size: 256M}]}
- {name: cache, service: memcached, memory: 256M, disk: 2G, tags: test}
"""
STACK = """\
name: br
services:
- {name: db, os: debian-12, memory: 128M, disk: 1G}
- {name: ui, os: debian-12, memory: 128M, disk: 1G, after: [db]}
"""


@pytest.fixture(scope="module")
def planning() -> Iterator[Host]:
    """A host for this file, which may be killed."""
    with Host.launched(number=4) as launched:
        yield launched


def _steps(host: Host, text: str) -> dict[str, str]:
    return {step["guest"]: step["action"] for look in host.post("/architect/plan", text=text) for step in look["steps"]}


def _guests(host: Host) -> dict[str, Any]:
    return {row["name"]: row for row in host.get(f"/nodes/{host.node}/lxc")}


def _file(folder: Path, text: str) -> str:
    path = folder / "homelab.yaml"
    path.write_text(text)
    return str(path)


def test_a_plan_is_made_kept_mended_and_removed(planning: Host, tmp_path: Path) -> None:
    host, file = planning, _file(tmp_path, LAB)
    host.template()
    assert set(_steps(host, LAB).values()) == {"create"}
    told = host.cli("apply", file, "--yes").stdout
    assert "3 changes" in told
    guests = _guests(host)
    assert {name: row["status"] for name, row in guests.items()} == dict.fromkeys(("web", "app", "cache"), "running")
    assert guests["cache"]["tags"] == "lab;memcached;test"
    log = [str(line) for line in _apply_log(host)]
    ready = [next(n for n, line in enumerate(log) if f"% {name}: runs" in line) for name in ("cache", "app", "web")]
    assert ready == sorted(ready)
    assert host.execute(int(guests["cache"]["vmid"]), "systemctl", "is-active", "memcached").strip() == "active"
    assert "/srv/data" in host.execute(int(guests["app"]["vmid"]), "cat", "/proc/mounts")

    assert set(_steps(host, LAB).values()) == {"keep"}
    began = time.monotonic()
    assert "0 changes" in host.cli("apply", file).stdout
    assert time.monotonic() - began < 20
    assert {name: row["vmid"] for name, row in _guests(host).items()} == {n: row["vmid"] for n, row in guests.items()}

    host.act(int(guests["app"]["vmid"]), "stop")
    host.put(host.path(int(guests["web"]["vmid"]), "/config"), memory=300)
    assert _steps(host, LAB) == {"web": "drift", "app": "drift", "cache": "keep"}
    shown = host.cli("plan", file).stdout
    assert "! app" in shown
    assert "memory: 300 MiB -> 128 MiB" in shown
    host.cli("apply", file, "--yes")
    assert set(_steps(host, LAB).values()) == {"keep"}

    refused = host.cli("destroy", file, check=False)
    assert refused.returncode == 6
    assert len(_guests(host)) == 3
    host.cli("destroy", "lab", "--yes")
    assert _guests(host) == {}
    assert host.get("/architect/plans") == []


def test_copies_survive_kill_nine_and_are_removed_in_one_command(planning: Host, tmp_path: Path) -> None:
    host, file = planning, _file(tmp_path, STACK)
    host.template()
    host.post("/architect/apply", text=STACK, copies=2)
    deadline = time.monotonic() + 60
    while len(_guests(host)) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    with contextlib.suppress(httpx.TransportError, ApiFailure):
        host.kill()
    host.start()
    assert all("lock" not in row for row in _guests(host).values())
    host.cli("apply", file, "--copies", "2", "--yes")
    guests = _guests(host)
    assert {name: row["status"] for name, row in guests.items()} == dict.fromkeys(
        ("br-1-db", "br-1-ui", "br-2-db", "br-2-ui"), "running"
    )
    assert len(host.get(f"/nodes/{host.node}/storage/local/content", content="rootdir")) == 4
    host.cli("destroy", file, "--copies", "2", "--yes")
    assert _guests(host) == {}
    assert host.get(f"/nodes/{host.node}/storage/local/content", content="rootdir") == []
    assert host.get("/architect/plans") == []


def _apply_log(host: Host) -> list[str]:
    upid = next(row["upid"] for row in host.get(f"/nodes/{host.node}/tasks", typefilter="apply"))
    return [line["t"] for line in host.get(f"/nodes/{host.node}/tasks/{upid}/log", limit=5000)]
