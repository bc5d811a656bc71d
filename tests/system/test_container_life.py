"""A container's life through the public API: made, started, looked at, changed, stopped, removed."""

import hashlib
import time
from pathlib import Path

import pytest

from bastide.base.layout import Layout
from framework.host import ApiFailure, Host, TaskFailed

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def web(host: Host) -> int:
    """A running Debian container that boots once for this module."""
    vmid = host.create(
        start=True,
        hostname="web",
        cores=1,
        memory=512,
        swap=0,
        password="correct horse",
        **{"ssh-public-keys": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKtAhvoyJ7jqiU5BhjAb0pZJ6Y4Ej3qBIyqvGp4A9cTV test"},
    )
    assert host.wait_booted(vmid) == "running"
    return vmid


def test_it_is_a_machine_of_its_own(host: Host, web: int) -> None:
    assert host.execute(web, "hostname").strip() == "web"
    assert host.execute(web, "id", "-u").strip() == "0"
    assert host.execute(web, "cat", "/proc/1/comm").strip() == "systemd"
    assert "MemTotal:         524288 kB" in host.execute(web, "cat", "/proc/meminfo")
    assert host.execute(web, "nproc").strip() == "1"
    first, count = host.execute(web, "cat", "/proc/self/uid_map").split()[1:]
    assert int(first) >= 65536
    assert int(count) == 65536
    assert host.execute(web, "cat", "/etc/machine-id").strip() != ""
    assert "ssh-ed25519" in host.execute(web, "cat", "/root/.ssh/authorized_keys")
    assert host.execute(web, "grep", "^root:", "/etc/shadow").startswith("root:$6$")


def test_it_has_an_address_and_a_name(host: Host, web: int) -> None:
    address = host.wait_address(web)
    neighbour = host.create(start=True, hostname="neighbour")
    host.wait_booted(neighbour)
    host.wait_address(neighbour)
    assert address in host.execute(neighbour, "getent", "ahostsv4", "web")
    host.execute(neighbour, "ping", "-c1", "-W3", "web")
    listed = {row["name"]: row for row in host.get(f"/nodes/{host.node}/lxc")}
    assert listed["neighbour"]["status"] == "running"
    host.wait(host.delete(host.path(neighbour), force=1))


def test_live_figures(host: Host, web: int) -> None:
    status = host.get(host.path(web, "/status/current"))
    assert status["status"] == "running"
    assert 5 << 20 < status["mem"] < 512 << 20
    assert status["maxmem"] == 512 << 20
    assert status["netin"] > 0
    row = next(r for r in host.get("/cluster/resources", type="vm") if r["vmid"] == web)
    assert (row["id"], row["status"], row["node"]) == (f"lxc/{web}", "running", host.node)


def test_limits_change_at_once(host: Host, web: int) -> None:
    host.put(host.path(web, "/config"), memory=1024, cores=2)
    assert "MemTotal:        1048576 kB" in host.execute(web, "cat", "/proc/meminfo")
    assert host.execute(web, "nproc").strip() == "2"
    assert not [row for row in host.get(host.path(web, "/pending")) if "pending" in row]
    host.put(host.path(web, "/config"), memory=512, delete="cores")
    assert "MemTotal:         524288 kB" in host.execute(web, "cat", "/proc/meminfo")
    assert "cores" not in host.get(host.path(web, "/config"))


def test_an_interface_comes_and_goes(host: Host, web: int) -> None:
    host.put(host.path(web, "/config"), net1=f"name=eth1,bridge={host.bridge},ip=10.77.0.5/24")
    assert "10.77.0.5/24" in host.execute(web, "ip", "-4", "addr", "show", "eth1")
    config = host.get(host.path(web, "/config"))
    assert "hwaddr=" in config["net1"]
    host.put(host.path(web, "/config"), delete="net1")
    assert "eth1" not in host.execute(web, "ip", "-o", "link")


def test_a_volume_is_mounted_at_once_and_its_data_outlives_detaching(host: Host, web: int) -> None:
    host.put(host.path(web, "/config"), mp0="local:1,mp=/data")
    host.execute(web, "sh", "-c", "echo kept > /data/file && chown 1000:1000 /data/file")
    volume = host.get(host.path(web, "/config"))["mp0"].partition(",")[0]
    host.put(host.path(web, "/config"), delete="mp0")
    assert [r for r in host.get(host.path(web, "/pending")) if r["key"] == "mp0" and r.get("delete")]
    host.act(web, "reboot")
    host.wait_booted(web)
    config = host.get(host.path(web, "/config"))
    assert config["unused0"] == volume
    assert host.execute(web, "sh", "-c", "test -e /data/file; echo $?").strip() == "1"
    host.put(host.path(web, "/config"), mp0=f"{volume},mp=/data")
    assert host.execute(web, "stat", "-c", "%u %g", "/data/file").strip() == "1000 1000"
    assert "unused0" not in host.get(host.path(web, "/config"))
    host.put(host.path(web, "/config"), delete="mp0")
    host.act(web, "reboot")
    host.put(host.path(web, "/config"), delete="unused0")
    with pytest.raises(ApiFailure):
        host.get(f"/nodes/{host.node}/storage/local/content/{volume}")
    host.wait_booted(web)


def test_what_must_wait_is_pending(host: Host, web: int) -> None:
    host.put(host.path(web, "/config"), hostname="web2")
    row = next(r for r in host.get(host.path(web, "/pending")) if r["key"] == "hostname")
    assert (row["value"], row["pending"]) == ("web", "web2")
    host.put(host.path(web, "/config"), revert="hostname")
    assert host.get(host.path(web, "/config"))["hostname"] == "web"
    assert not [r for r in host.get(host.path(web, "/pending")) if "pending" in r]


def test_a_stale_digest_is_refused(host: Host, web: int) -> None:
    digest = host.get(host.path(web, "/config"))["digest"]
    host.put(host.path(web, "/config"), description="one", digest=digest)
    with pytest.raises(ApiFailure, match="detected modified configuration"):
        host.put(host.path(web, "/config"), description="two", digest=digest)
    assert host.get(host.path(web, "/config"))["description"] == "one"


def test_suspend_and_resume(host: Host, web: int) -> None:
    host.act(web, "suspend")
    with pytest.raises(TaskFailed, match="not running"):
        host.act(web, "suspend")
    host.act(web, "resume")
    assert host.execute(web, "echo", "awake").strip() == "awake"


def test_reboot_from_inside_keeps_it_running(host: Host, web: int) -> None:
    before = host.execute(web, "cat", "/proc/sys/kernel/random/boot_id", "/proc/1/stat")
    host.execute(web, "systemctl", "reboot", check=False)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        time.sleep(0.3)
        if host.execute(web, "cat", "/proc/sys/kernel/random/boot_id", "/proc/1/stat", check=False) not in ("", before):
            break
    assert host.wait_booted(web) == "running"
    host.wait_address(web)


def test_power_off_from_inside_is_noticed(host: Host, web: int) -> None:
    host.execute(web, "systemctl", "poweroff", check=False)
    deadline = time.monotonic() + 60
    while host.get(host.path(web, "/status/current"))["status"] == "running":
        assert time.monotonic() < deadline
        time.sleep(0.2)
    host.act(web, "start")
    assert host.wait_booted(web) == "running"


def test_a_running_container_is_not_destroyed_by_mistake(host: Host, web: int) -> None:
    with pytest.raises(ApiFailure, match="is running"):
        host.delete(host.path(web))
    host.put(host.path(web, "/config"), protection=1)
    with pytest.raises(ApiFailure, match="protection"):
        host.delete(host.path(web), force=1)
    host.put(host.path(web, "/config"), protection=0)


def test_shutdown_and_destroy_leave_nothing(host: Host, web: int) -> None:
    host.act(web, "shutdown")
    host.wait(host.delete(host.path(web)))
    with pytest.raises(ApiFailure, match="does not exist"):
        host.get(host.path(web, "/config"))
    assert_nothing_left(host, web)


def test_static_addresses_and_names(host: Host) -> None:
    gateway = next(r for r in host.get(f"/nodes/{host.node}/network") if r["iface"] == host.bridge)["address"]
    address = gateway.rpartition(".")[0] + ".200"
    vmid = host.create(
        start=True, hostname="static", net0=f"name=eth0,bridge={host.bridge},ip={address}/24,gw={gateway}"
    )
    host.wait_booted(vmid)
    assert address in host.execute(vmid, "ip", "-4", "addr", "show", "eth0")
    host.execute(vmid, "ping", "-c1", "-W3", gateway)
    assert address in host.execute(vmid, "getent", "ahostsv4", "static")
    host.wait(host.delete(host.path(vmid), force=1))


def test_bind_mounts_and_read_only(host: Host, tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared/file").write_text("of the host")
    vmid = host.create(start=True, mp0=f"{tmp_path}/shared,mp=/shared,ro=1")
    assert host.execute(vmid, "cat", "/shared/file") == "of the host"
    assert "Read-only" in host.cli("exec", str(vmid), "--", "touch", "/shared/x", check=False).stderr
    host.wait(host.delete(host.path(vmid), force=1))
    assert (tmp_path / "shared/file").read_text() == "of the host"


def test_files_go_in_and_out(host: Host, tmp_path: Path) -> None:
    vmid = host.create(start=True)
    data = tmp_path / "data"
    data.write_bytes(bytes(range(256)) * 40_000)
    host.cli("push", str(data), f"{vmid}:/root/data")
    digest = hashlib.sha256(data.read_bytes()).hexdigest()
    assert host.execute(vmid, "sha256sum", "/root/data").startswith(digest)
    host.cli("pull", f"{vmid}:/root/data", str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == data.read_bytes()
    host.wait(host.delete(host.path(vmid), force=1))


def test_the_daemon_may_go_and_come(host: Host) -> None:
    vmid = host.create(start=True)
    host.wait_booted(vmid)
    before = host.execute(vmid, "cat", "/proc/1/stat").split()[21]
    host.kill()
    host.start()
    assert host.get(host.path(vmid, "/status/current"))["status"] == "running"
    assert host.execute(vmid, "cat", "/proc/1/stat").split()[21] == before
    host.stop()
    host.start()
    host.act(vmid, "stop")
    host.wait(host.delete(host.path(vmid)))
    assert_nothing_left(host, vmid)


def assert_nothing_left(host: Host, vmid: int) -> None:
    """No file, mount, interface or cgroup bears the guest's number."""
    text = str(vmid)
    assert text not in Path("/proc/self/mountinfo").read_text()
    assert not [path for path in Path("/sys/class/net").iterdir() if text in path.name]
    assert [path for path in host.files("tasks", "log") if text in path.name] == []
    instance = f"*/{Layout(host.root).instance}/*{vmid}*"
    assert not list(Path("/sys/fs/cgroup").glob(instance))
