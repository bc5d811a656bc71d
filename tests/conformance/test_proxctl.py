"""A client nobody here wrote: proxctl drives VMs and containers with an API token."""

import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from framework.clients import Login, proxctl
from framework.host import Host

pytestmark = pytest.mark.system


@dataclass
class Client:
    """proxctl at a host."""

    host: Host
    login: Login

    def __call__(self, *arguments: object) -> Any:
        """Run a command; what it answers."""
        done = proxctl(self.host, self.login, *arguments)
        assert done.returncode == 0, f"{arguments}: {done.stderr}"
        return json.loads(done.stdout) if done.stdout.strip() else None


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with Host.launched(number=11) as host:
        yield Client(host, Login.make(host))


def rows(answer: dict[str, Any]) -> dict[int, str]:
    """vmid -> status."""
    return {row["vmid"]: row["status"] for row in answer["items"]}


def make_vm(client: Client, name: str) -> int:
    """A VM by proxctl's raw call, which takes a form that is not yet encoded."""
    vmid = client.host.new_vmid()
    options = {"vmid": vmid, "name": name, "memory": 64, "scsi0": "local:1", "ide2": "local:cloudinit", "agent": 1}
    form = "&".join(f"{key}={value}" for key, value in options.items())
    upid = client("api", "post", f"/nodes/{client.host.node}/qemu", "--data", form)
    client("task", "wait", upid)
    return vmid


def test_a_vms_life(client: Client) -> None:
    vmid = make_vm(client, "db")
    assert rows(client("vm", "list")) == {vmid: "stopped"}
    for action, status, detail in (("start", "running", "running"), ("reset", "running", "running"),
                                   ("suspend", "running", "paused"), ("resume", "running", "running"),
                                   ("stop", "stopped", "stopped")):  # fmt: skip
        client("vm", action, vmid)
        seen = client("vm", "status", vmid)
        assert (seen["status"], seen["qmpstatus"]) == (status, detail), action
    client("vm", "set", vmid, "--memory", 96, "--cores", 2, "--onboot", "true", "--description", "a b")
    config = client("vm", "config", vmid)
    assert (str(config["memory"]), config["cores"], config["description"]) == ("96", 2, "a b")
    client("vm", "resize", vmid, "--disk", "scsi0", "--size", "+1G")
    wait_until(lambda: "size=2G" in client("vm", "config", vmid)["scsi0"])
    client("vm", "cloudinit", "set", vmid, "--ciuser", "ada", "--ipconfig0", "ip=dhcp")
    shown = {row["key"]: row["value"] for row in client("vm", "cloudinit", "show", vmid)}
    assert shown == {"ciuser": "ada", "ipconfig0": "ip=dhcp"}
    assert [row["name"] for row in client("vm", "snapshot", "list", vmid)] == ["current"]
    client("vm", "destroy", vmid)
    assert rows(client("vm", "list")) == {}
    gone = proxctl(client.host, client.login, "vm", "status", vmid)
    assert (gone.returncode, "does not exist" in gone.stderr) == (5, True), gone.stderr


def test_an_exported_vm_is_applied_again(client: Client, tmp_path: Path) -> None:
    vmid = make_vm(client, "app")
    (exported,) = client("export", "vm", vmid)
    manifest = tmp_path / "vm.yaml"
    actions = []
    for memory in ("64", "96", "96"):
        exported["config"]["memory"] = memory
        manifest.write_text(json.dumps(exported))
        (done,) = client("apply", "--file", manifest)
        actions.append((done["status"], done["action"]))
    assert actions == [("ok", "noop"), ("ok", "update"), ("ok", "noop")]
    client("vm", "destroy", vmid)


def test_a_containers_life(client: Client) -> None:
    host = client.host
    vmid = host.create(hostname="web", memory=128)
    assert rows(client("container", "list")) == {vmid: "stopped"}
    for action, status in (("start", "running"), ("stop", "stopped")):
        client("container", action, vmid)
        assert client("container", "status", vmid)["status"] == status, action
    client("container", "set", vmid, "--memory", 160)
    assert client("container", "config", vmid)["memory"] == 160
    client("container", "resize", vmid, "--disk", "rootfs", "--size", "+1G")
    client("container", "destroy", vmid)
    assert rows(client("container", "list")) == {}


@pytest.mark.parametrize("kind", ["vm", "container"])
def test_snapshots_and_templates(client: Client, kind: str) -> None:
    host = client.host
    vmid = make_vm(client, "old") if kind == "vm" else host.create(hostname="old", memory=128)
    path = f"/nodes/{host.node}/{'qemu' if kind == 'vm' else 'lxc'}/{vmid}"
    done(client, client(kind, "snapshot", "create", vmid, "one", "--description", "a b"))
    client(kind, "set", vmid, "--memory", 96)
    first, _current = client(kind, "snapshot", "list", vmid)
    assert (first["name"], first["description"].strip()) == ("one", "a b")
    done(client, client(kind, "snapshot", "rollback", vmid, "one"))
    assert str(client(kind, "config", vmid)["memory"]) != "96"
    done(client, client(kind, "snapshot", "delete", vmid, "one"))
    assert [row["name"] for row in client(kind, "snapshot", "list", vmid)] == ["current"]
    done(client, client(kind, "template", vmid))
    wait_until(lambda: host.get(f"{path}/config").get("template") == 1)
    refused = proxctl(host, client.login, kind, "start", vmid)
    assert (refused.returncode != 0, "template" in refused.stderr) == (True, True), refused.stderr
    client(kind, "destroy", vmid)


def test_storages_and_disks(client: Client, tmp_path: Path) -> None:
    node, iso = client.host.node, tmp_path / "tiny.iso"
    iso.write_bytes(bytes(32769) + b"CD001" + bytes(4096))
    client("storage", "create", "--storage", "shelf", "--type", "dir", "--path", tmp_path / "shelf", "--content", "iso")
    done(client, client("storage", "upload", "shelf", iso))
    wait_until(lambda: [row["volid"] for row in client("storage", "content", "shelf")] == ["shelf:iso/tiny.iso"])
    client("storage", "update", "shelf", "--content", "iso,images")
    assert client.host.get("/storage/shelf")["content"] == "images,iso"
    assert client("storage", "status", "shelf")["active"] == 1
    client("storage", "delete", "shelf")
    assert "shelf" not in [row["storage"] for row in client("storage", "list")["items"]]
    assert all(row["devpath"].startswith("/dev/") for row in client("node", "disk", "list", node))


def done(client: Client, answer: Any) -> None:
    """Wait for the task that a command has started, where it does not do so itself."""
    found = re.search(r"UPID:[^\s\"']+:", json.dumps(answer))
    if found is not None:
        client.host.wait(found[0])


def test_what_lies_around_guests(client: Client) -> None:
    node = client.host.node
    assert client("version")["server_version"].startswith("9.1")
    assert [row["node"] for row in client("node", "list")["items"]] == [node]
    assert client("node", "status")["cpuinfo"]["cpus"] > 0
    assert client("task", "list")["items"]
    assert [row["storage"] for row in client("storage", "list")["items"]] == ["local"]
    assert f"node/{node}" in [row["id"] for row in client("cluster", "resources")]
    client("pool", "create", "shop", "--comment", "a b")
    assert [row["poolid"] for row in client("pool", "list")["items"]] == ["shop"]
    client("access", "user", "create", "grace@pve")
    assert "grace@pve" in [row["userid"] for row in client("access", "users")]
    assert client("access", "roles")
    assert client("health")


def test_creation_has_the_clients_own_fault(client: Client) -> None:
    """It reads the next free vmid as a number, which is text as with Proxmox VE; so it does for clones."""
    vmid = make_vm(client, "one")
    for arguments in (("create", "--name", "x", "--memory", 64, "--cores", 1), ("clone", vmid, "--full")):
        failed = proxctl(client.host, client.login, "vm", *arguments)
        assert (failed.returncode, "error decoding response body" in failed.stderr) == (1, True)
    assert rows(client("vm", "list")) == {vmid: "stopped"}
    client("vm", "destroy", vmid)


def wait_until(true: Callable[[], bool]) -> None:
    """Some seconds at most."""
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.1)
