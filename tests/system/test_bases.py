"""Many guests from one base at once, and kill -9 while it is made or used: nothing half made, a next try works."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from framework.host import Host, TaskFailed

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

AT_ONCE = 10


def _begin(host: Host, template: str, count: int = AT_ONCE) -> dict[int, str]:
    """{vmid: upid} of creates."""
    return {
        vmid: str(
            host.post(f"/nodes/{host.node}/lxc", vmid=vmid, ostemplate=template, unprivileged=1, rootfs="local:1")
        )
        for vmid in [host.new_vmid() for _ in range(count)]
    }


def _log(host: Host, upid: str) -> str:
    return "\n".join(line["t"] for line in host.get(f"/nodes/{host.node}/tasks/{upid}/log", limit=500))


def _wait_until(holds: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def _bases(host: Host) -> set[str]:
    """The keys of the bases; what lies beside one begins with its key."""
    folder = host.root / "state/storage/.base"
    return {path.name.partition(".")[0] for path in folder.iterdir()} if folder.is_dir() else set()


def _check_whole(host: Host) -> None:
    """Every guest that is there is whole, and every volume is a guest's."""
    guests = host.get(f"/nodes/{host.node}/lxc")
    configs = [host.get(host.path(row["vmid"], "/config")) for row in guests]
    assert all("lock" not in config and config["ostype"] == "debian" for config in configs)
    used = {config["rootfs"].partition(",")[0] for config in configs}
    rows = host.get(f"/nodes/{host.node}/storage/local/content")
    assert {row["volid"] for row in rows if row["content"] in ("rootdir", "images")} == used
    mounted = [
        line for line in Path("/proc/self/mountinfo").read_text().splitlines() if f"{host.root}/run/mounts" in line
    ]
    assert mounted == []
    assert [path.name for path in (host.root / "state/storage/.incoming").iterdir()] == []


def test_ten_creates_at_once_survive_kill_nine(own_host: Host) -> None:
    host = own_host
    template = host.template()
    for moment in ("making", "using"):
        upids = _begin(host, template)
        if moment == "making":
            _wait_until(lambda upids=upids: any("making a base" in _log(host, upid) for upid in upids.values()))
            time.sleep(0.15)
        else:
            _wait_until(lambda upids=upids: any("detected distribution" in _log(host, upid) for upid in upids.values()))
        host.kill()
        host.start()
        ends = {vmid: host.get(f"/nodes/{host.node}/tasks/{upid}/status")["exitstatus"] for vmid, upid in upids.items()}
        there = {row["vmid"] for row in host.get(f"/nodes/{host.node}/lxc")}
        assert any(end != "OK" for end in ends.values()), "the kill came after the end"
        assert {vmid for vmid, end in ends.items() if end == "OK"} <= there
        _check_whole(host)

    upids = _begin(host, template)
    for upid in upids.values():
        host.wait(upid)
    _check_whole(host)
    assert len(_bases(host)) == 1
    last = next(reversed(upids))
    host.act(last, "start")
    assert host.wait_booted(last) == "running"
    host.act(last, "stop")


def test_a_deleted_template_takes_its_base_along_when_nothing_builds_on_it(own_host: Host) -> None:
    host = own_host
    template = host.template()
    vmid = host.create()
    assert len(_bases(host)) == 1
    log = host.wait(host.delete(f"/nodes/{host.node}/storage/local/content/{template}"))
    on_layers = "removed its base" not in log
    assert len(_bases(host)) == int(on_layers)
    host.act(vmid, "start")
    assert host.wait_booted(vmid) == "running"
    host.act(vmid, "stop")
    host.wait(host.delete(host.path(vmid)))
    host.stop()
    host.start()
    _wait_until(lambda: _bases(host) == set())


def test_a_template_that_is_broken_fails_every_create_and_leaves_nothing(own_host: Host) -> None:
    host = own_host
    whole = Path(host.root, "state/storage/template/cache", host.template().rpartition("/")[2])
    broken = whole.with_name("broken_1_amd64.tar.zst")
    broken.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    for upid in _begin(host, f"local:vztmpl/{broken.name}", 3).values():
        with pytest.raises(TaskFailed, match=r"cannot be read|truncated"):
            host.wait(upid)
    assert host.get(f"/nodes/{host.node}/lxc") == []
    assert _bases(host) == set()
    _check_whole(host)
