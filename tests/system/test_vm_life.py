"""A Debian VM from its cloud image to its end: cloud-init, agent, changes while it runs, bad days.

One VM serves all tests of this file, in their order: emulated, it needs minutes to boot.
"""

import base64
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from framework.host import ApiFailure, Host

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHtestkeytestkeytestkeytestkeytestkeytest me@example.org"


@pytest.fixture(scope="module")
def debian(host: Host) -> Iterator[int]:
    """A running Debian with an agent that answers; cloud-init is through."""
    vmid = host.create_debian_vm(
        name="db.example.org",
        ciuser="me",
        cipassword="Correct-Horse",
        sshkeys=KEY.replace(" ", "%20").replace("+", "%2B"),
        cores=2,
        vcpus=1,
        numa=1,
        hotplug="network,disk,cpu,memory,usb,cloudinit",
        watchdog="model=i6300esb,action=reset",
    )
    host.wait_agent(vmid)
    # The agent is up before cloud-init is through.
    run(host, vmid, "cloud-init", "status", "--wait", seconds=300)
    yield vmid
    host.act(vmid, "stop")
    host.wait(host.delete(host.path(vmid)))


def run(host: Host, vmid: int, *argv: str, seconds: float = 60, stdin: str | None = None) -> str:
    """Run a command by the agent's methods of the API; its output."""
    options = {"input-data": stdin} if stdin is not None else {}
    values = [("command", word) for word in argv] + list(options.items())
    answer = host.http.post(host.path(vmid, "/agent/exec"), content=urlencode(values), headers=FORM)
    if answer.status_code != 200:
        raise ApiFailure(answer)
    pid = answer.json()["data"]["pid"]
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        status = host.get(host.path(vmid, "/agent/exec-status"), pid=pid)
        if status["exited"]:
            assert status.get("exitcode") == 0, status
            return str(status.get("out-data", ""))
        time.sleep(0.1)
    raise AssertionError(f"{argv} did not end")


def current(host: Host, vmid: int) -> dict[str, Any]:
    return dict(host.get(host.path(vmid, "/status/current")))


def wait_for(what: str, check: Any, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, what
        time.sleep(0.2)


def test_cloud_init_made_the_guest_what_was_asked(host: Host, debian: int) -> None:
    assert run(host, debian, "hostname", "--fqdn").strip() == "db.example.org"
    assert KEY in run(host, debian, "cat", "/home/me/.ssh/authorized_keys")
    shadow = run(host, debian, "getent", "shadow", "me")
    assert shadow.split(":")[1].startswith("$6$")
    config = host.get(host.path(debian, "/config"))
    assert config["cipassword"] == "**********"
    assert "Correct-Horse" not in json.dumps(config)
    assert run(host, debian, "uname", "-r").strip() != os.uname().release


def test_its_address_is_known_everywhere(host: Host, debian: int) -> None:
    rows = host.get(host.path(debian, "/agent/network-get-interfaces"))["result"]
    found = {entry["ip-address"] for row in rows for entry in row.get("ip-addresses", [])}
    listed = next(row for row in host.get("/bastide/guests") if row["vmid"] == debian)
    assert listed["type"] == "qemu"
    assert listed["addresses"]
    assert set(listed["addresses"]) <= found
    with socket.create_connection((listed["addresses"][0], 22), timeout=10) as connection:
        assert connection.recv(64).startswith(b"SSH-2.0")


def test_commands_and_files_go_through_the_agent(host: Host, debian: int) -> None:
    done = host.cli("exec", "db.example.org", "--", "sh", "-c", "echo out; echo err >&2; exit 3", check=False)
    assert (done.returncode, done.stdout, done.stderr) == (3, "out\n", "err\n")
    assert run(host, debian, "cat", stdin="typed") == "typed"
    host.post(host.path(debian, "/agent/file-write"), file="/root/x", content=base64.b64encode(b"a\0b").decode(),
              encode=0)  # fmt: skip
    assert run(host, debian, "od", "-An", "-c", "/root/x").split() == ["a", "\\0", "b"]
    assert host.get(host.path(debian, "/agent/get-osinfo"))["result"]["id"] == "debian"
    assert any(row["mountpoint"] == "/" for row in host.get(host.path(debian, "/agent/get-fsinfo"))["result"])


def test_a_freeze_stills_the_guest_and_thaws(host: Host, debian: int) -> None:
    assert host.post(host.path(debian, "/agent/fsfreeze-freeze"))["result"] >= 1
    assert host.post(host.path(debian, "/agent/fsfreeze-status"))["result"] == "frozen"
    host.post(host.path(debian, "/agent/fsfreeze-thaw"))
    assert host.post(host.path(debian, "/agent/fsfreeze-status"))["result"] == "thawed"


def disks_inside(host: Host, vmid: int) -> dict[str, int]:
    rows = json.loads(run(host, vmid, "lsblk", "--bytes", "--json", "--nodeps", "-o", "NAME,SIZE,SERIAL"))
    return {row["serial"] or row["name"]: int(row["size"]) for row in rows["blockdevices"]}


def test_disks_come_grow_and_go_while_it_runs(host: Host, debian: int) -> None:
    host.put(host.path(debian, "/config"), scsi1="local:1,serial=EXTRA,discard=on", virtio1="local:1,serial=VBLK")
    wait_for("the disks appear", lambda: {"EXTRA", "VBLK"} <= disks_inside(host, debian).keys())
    host.wait(host.put(host.path(debian, "/resize"), disk="scsi1", size="+1G"))
    run(host, debian, "sh", "-c", "echo 1 | tee /sys/class/block/sd*/device/rescan")
    wait_for("the disk grows", lambda: disks_inside(host, debian)["EXTRA"] == 2 << 30)
    host.put(host.path(debian, "/config"), delete="scsi1,virtio1")
    wait_for("the disks go", lambda: not {"EXTRA", "VBLK"} & disks_inside(host, debian).keys())
    config = host.get(host.path(debian, "/config"))
    assert {"unused0", "unused1"} <= config.keys()
    host.put(host.path(debian, "/unlink"), idlist="unused0,unused1", force=1)
    rows = host.get(f"/nodes/{host.node}/storage/local/content", vmid=debian)
    assert not [row for row in rows if "disk-1" in row["volid"] or "disk-2" in row["volid"]]


def test_network_cards_come_and_go_while_it_runs(host: Host, debian: int) -> None:
    def links() -> str:
        return run(host, debian, "ip", "-o", "link")

    host.put(host.path(debian, "/config"), net1=f"virtio=02:00:00:AA:BB:01,bridge={host.bridge}")
    wait_for("the card appears", lambda: "02:00:00:aa:bb:01" in links())
    host.put(host.path(debian, "/config"), net1=f"virtio=02:00:00:AA:BB:01,bridge={host.bridge},link_down=1")
    run(host, debian, "sh", "-c", "ip link set $(ip -o link | awk -F': ' '/02:00:00:aa:bb:01/ {print $2}') up")
    wait_for("its cable is unplugged", lambda: "NO-CARRIER" in links())
    host.put(host.path(debian, "/config"), delete="net1")
    wait_for("the card goes", lambda: "02:00:00:aa:bb:01" not in links())


def test_processors_and_memory_come_while_it_runs(host: Host, debian: int) -> None:
    assert run(host, debian, "nproc").strip() == "1"
    host.put(host.path(debian, "/config"), vcpus=2)
    if current(host, debian)["accelerator"] == "kvm":
        run(host, debian, "sh", "-c", "for c in /sys/devices/system/cpu/cpu*/online; do echo 1 >$c || :; done")
        wait_for("the processor appears", lambda: run(host, debian, "nproc").strip() == "2")
    else:
        pending = host.get(host.path(debian, "/pending"))
        assert {"key": "vcpus", "value": 1, "pending": 2} in pending, "an emulated one waits for the next start"
    before = int(run(host, debian, "awk", "/MemTotal/ {print $2}", "/proc/meminfo"))
    host.put(host.path(debian, "/config"), memory=1024)
    run(host, debian, "sh", "-c", "for m in /sys/devices/system/memory/memory*/state; do echo online >$m || :; done")
    wait_for(
        "the memory appears",
        lambda: int(run(host, debian, "awk", "/MemTotal/ {print $2}", "/proc/meminfo")) > before + 200 * 1024,
    )
    host.put(host.path(debian, "/config"), balloon=512)
    wait_for("the balloon grows", lambda: current(host, debian).get("balloon", 1 << 60) <= 640 << 20, 60)


def test_a_full_storage_pauses_the_guest_until_there_is_room(host: Host, debian: int, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m", "none", str(small)], check=True)
    try:
        host.post("/storage", storage="small", type="dir", path=str(small), content="images")
        host.put(host.path(debian, "/config"), scsi1="small:0.03125,serial=SMALL")
        (small / "others").write_bytes(bytes(24 << 20))
        wait_for("the disk appears", lambda: "SMALL" in disks_inside(host, debian))
        name = run(host, debian, "sh", "-c", "lsblk -ndo NAME,SERIAL | awk '/SMALL/ {print $1}'").strip()
        run(
            host, debian, "systemd-run", "dd", "if=/dev/urandom", f"of=/dev/{name}", "bs=1M", "count=32", "oflag=direct"
        )
        wait_for("the guest is paused", lambda: current(host, debian)["qmpstatus"] == "io-error", 60)
        assert current(host, debian)["error"]
        subprocess.run(["mount", "-o", "remount,size=200m", str(small)], check=True)
        host.act(debian, "resume")
        wait_for("it goes on", lambda: current(host, debian)["qmpstatus"] == "running")
        assert run(host, debian, "true") == ""
        host.put(host.path(debian, "/config"), delete="scsi1")
        wait_for("the disk goes", lambda: "SMALL" not in disks_inside(host, debian))
        host.put(host.path(debian, "/unlink"), idlist="unused0", force=1)
        host.delete("/storage/small")
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)


def test_a_stuck_qemu_costs_two_seconds_and_nobody_else_anything(host: Host, debian: int) -> None:
    pid = current(host, debian)["pid"]
    other = host.create_vm(start=True)
    os.kill(pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        assert current(host, debian)["qmpstatus"] == "unknown"
        assert time.monotonic() - began < 2.8
        began = time.monotonic()
        assert current(host, other)["qmpstatus"] == "running"
        host.get(f"/nodes/{host.node}/qemu")
        assert time.monotonic() - began < 1
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_for("it answers again", lambda: current(host, debian)["qmpstatus"] == "running")


def test_it_outlives_the_daemon_and_is_followed_again(host: Host, debian: int) -> None:
    pid = current(host, debian)["pid"]
    host.kill()
    host.start()
    assert current(host, debian)["pid"] == pid
    wait_for("its monitor is back", lambda: current(host, debian)["qmpstatus"] == "running")
    assert run(host, debian, "true") == ""
    host.put(host.path(debian, "/config"), description="waits for nothing", cores=3)
    assert {"key": "cores", "value": 2, "pending": 3} in host.get(host.path(debian, "/pending"))


def test_a_reboot_brings_what_waited_and_a_halt_from_inside_is_seen(host: Host, debian: int) -> None:
    host.wait(host.post(host.path(debian, "/status/reboot"), timeout=200), 400)
    config = host.get(host.path(debian, "/config"))
    assert (config["cores"], config["vcpus"]) == (3, 2)
    host.wait_agent(debian)
    # Not by `nproc`: an emulated processor that is busy may come up too late for the guest's kernel.
    assert host.post(host.path(debian, "/monitor"), command="info cpus").count("CPU #") == 2
    run(host, debian, "systemd-run", "--on-active=1", "systemctl", "poweroff")
    wait_for("it is stopped", lambda: current(host, debian)["status"] == "stopped", 180)
    host.act(debian, "start")
    wait_for("it runs", lambda: current(host, debian)["status"] == "running")
    os.kill(current(host, debian)["pid"], signal.SIGKILL)
    wait_for("its death is seen", lambda: current(host, debian)["status"] == "stopped", 5)
    host.act(debian, "start")
    assert current(host, debian)["qmpstatus"] == "running"
