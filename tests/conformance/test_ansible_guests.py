"""Clients nobody here wrote: Ansible's inventory over guests of both kinds, and its modules for what is not a VM."""

import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from framework.clients import Ansible, Login
from framework.host import Host

pytestmark = pytest.mark.system


@dataclass
class Fleet:
    """A host with a running container and a stopped VM, in a pool."""

    ansible: Ansible
    container: int
    vm: int


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """The guests are made by hand, so that what is shown of them is known."""
    with Host.launched(number=9) as host:
        ansible = Ansible(host, Login.make(host), tmp_path_factory.mktemp("ansible"))
        container = host.create(start=True, hostname="web", tags="front", memory=128)
        vm = host.create_vm(name="db", tags="back;sql", agent="enabled=1", onboot=1)
        host.post("/pools", poolid="shop")
        host.put("/pools/shop", vms=f"{container},{vm}")
        yield Fleet(ansible, container, vm)


def test_a_containers_life(fleet: Fleet) -> None:
    ansible, host = fleet.ansible, fleet.ansible.host
    vmid = host.new_vmid()
    container = {"node": host.node, "hostname": "ans", "vmid": vmid, "timeout": 60}
    create = {
        **container, "ostemplate": host.template(), "disk": "local:1", "memory": 128, "swap": 0, "unprivileged": True,
        "netif": {"net0": f"name=eth0,bridge={host.bridge},ip=dhcp"}, "password": "correct horse", "tags": ["a", "b"],
        "features": ["nesting=1"], "onboot": False, "pubkey": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHRlc3Q a@b",
    }  # fmt: skip
    results = ansible.play(
        ("proxmox", create),
        ("proxmox", {**create, "update": False}),
        ("proxmox", {**container, "state": "started"}),
        ("proxmox", {**container, "state": "started"}),
        ("proxmox", {**container, "memory": 160, "update": True}),
        ("proxmox", {**container, "memory": 160, "update": True}),
        ("proxmox", {**container, "state": "restarted", "force": True}),
        ("proxmox", {**container, "state": "absent"}),
        ("proxmox", {**container, "state": "stopped", "force": True}),
        ("proxmox", {**container, "state": "stopped"}),
        ("proxmox", {**container, "state": "absent"}),
        ("proxmox", {**container, "state": "absent"}),
    )
    assert [result["msg"] for result in results if result["failed"]] == []
    changed = [result["changed"] for result in results]
    assert changed == [True, False, True, False, True, False, True, False, True, False, True, False]


def test_what_is_told_of_guests(fleet: Fleet) -> None:
    ansible, node = fleet.ansible, fleet.ansible.host.node
    fleet.ansible.host.wait_address(fleet.container)
    everything, containers, one, none = ansible.play(
        ("proxmox_vm_info", {"node": node, "config": "current"}),
        ("proxmox_vm_info", {"type": "lxc", "name": "web", "network": True}),
        ("proxmox_vm_info", {"type": "qemu", "vmid": fleet.vm, "config": "pending"}),
        ("proxmox_vm_info", {"name": "nobody"}),
    )
    rows = {row["vmid"]: row for row in everything["proxmox_vms"]}
    assert {vmid: (row["type"], row["status"], row["template"]) for vmid, row in rows.items()} == {
        fleet.container: ("lxc", "running", False),
        fleet.vm: ("qemu", "stopped", False),
    }
    assert (rows[fleet.container]["config"]["hostname"], rows[fleet.vm]["config"]["name"]) == ("web", "db")
    (web,) = containers["proxmox_vms"]
    assert "eth0" in [interface["name"] for interface in web["network"]]
    assert [row["config"]["memory"] for row in one["proxmox_vms"]] == ["64"]
    assert none["proxmox_vms"] == []


def test_inventory_groups_and_facts(fleet: Fleet) -> None:
    ansible, node = fleet.ansible, fleet.ansible.host.node
    fleet.ansible.host.act(fleet.vm, "start")
    facts = {
        "want_facts": True, "qemu_extended_statuses": True, "want_proxmox_nodes_ansible_host": True,
        "keyed_groups": [{"key": "proxmox_tags_parsed", "separator": "", "prefix": "tag_"}],
        "groups": {"shops": "'front' in (proxmox_tags_parsed | list)"},
    }  # fmt: skip
    found = ansible.inventory(**facts)
    groups = {name: set(group.get("hosts", [])) for name, group in found.items() if name != "_meta"}
    for group, hosts in {
        "proxmox_all_lxc": {"web"}, "proxmox_all_qemu": {"db"}, "proxmox_all_running": {"web", "db"},
        f"proxmox_{node}_lxc": {"web"}, f"proxmox_{node}_qemu": {"db"}, "proxmox_nodes": {node},
        "proxmox_pool_shop": {"web", "db"}, "tag_front": {"web"}, "tag_sql": {"db"}, "shops": {"web"},
    }.items():  # fmt: skip
        assert groups.get(group) == hosts, group
    db, web = found["_meta"]["hostvars"]["db"], found["_meta"]["hostvars"]["web"]
    assert (db["proxmox_vmid"], db["proxmox_vmtype"], db["proxmox_qmpstatus"]) == (fleet.vm, "qemu", "running")
    assert (db["proxmox_snapshots"], db["proxmox_agent"]) == ([], "1")
    assert (web["proxmox_status"], web["proxmox_net0"]["bridge"]) == ("running", ansible.host.bridge)
    assert "eth0" in [interface["name"] for interface in web["proxmox_lxc_interfaces"]]

    fleet.ansible.host.act(fleet.vm, "stop")
    running = ansible.inventory(want_facts=True, filters=["proxmox_status == 'running'"], exclude_nodes=True)
    assert set(running["_meta"]["hostvars"]) == {"web"}
    plain = ansible.inventory(group_prefix="pve_")
    assert (plain["pve_all_running"]["hosts"], plain["pve_all_stopped"]["hosts"]) == (["web"], ["db"])


def test_what_lies_around_guests(fleet: Fleet, tmp_path: Path) -> None:
    ansible, node = fleet.ansible, fleet.ansible.host.node
    template = tmp_path / "tiny_1_amd64.tar.gz"
    with tarfile.open(template, "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("etc"), io.BytesIO())
    iso = tmp_path / "tiny.iso"
    iso.write_bytes(bytes(32769) + b"CD001" + bytes(4096))
    pool, member = {"poolid": "lane"}, {"poolid": "lane", "member": "db"}
    user = {"userid": "grace@pve", "password": "correct horse", "firstname": "Grace", "enable": True}
    at_node = {"node": node, "storage": "local"}
    tasks = (
        ("proxmox_template", {**at_node, "src": str(template)}),
        ("proxmox_template", {**at_node, "src": str(template)}),
        ("proxmox_template", {**at_node, "template": template.name, "state": "absent"}),
        ("proxmox_template", {**at_node, "src": str(iso), "content_type": "iso"}),
        ("proxmox_pool", pool),
        ("proxmox_pool", pool),
        ("proxmox_pool_member", {"poolid": "shop", "member": "db", "state": "absent"}),
        ("proxmox_pool_member", member),
        ("proxmox_pool_member", member),
        ("proxmox_pool_member", {**member, "state": "absent"}),
        ("proxmox_pool", {**pool, "state": "absent"}),
        ("proxmox_user", user),
        ("proxmox_user", {"userid": "grace@pve", "state": "absent"}),
    )
    results = ansible.play(*tasks)
    assert [result["msg"] for result in results if result["failed"]] == []
    assert [result["changed"] for result in results] == [
        True, False, True, True, True, False, True, True, False, True, True, True, True
    ]  # fmt: skip
    content = fleet.ansible.host.get(f"/nodes/{node}/storage/local/content")
    volumes = {row["volid"] for row in content}
    assert f"local:iso/{iso.name}" in volumes
    assert f"local:vztmpl/{template.name}" not in volumes
    infos = ansible.play(
        ("proxmox_node_info", {}),
        ("proxmox_storage_info", {}),
        ("proxmox_storage_contents_info", {**at_node, "content": "iso"}),
        ("proxmox_user_info", {"userid": "ada@pve"}),
        ("proxmox_tasks_info", {"node": node}),
    )
    assert [result["msg"] for result in infos if result["failed"]] == []
    assert infos[0]["proxmox_nodes"][0]["node"] == node
    assert infos[3]["proxmox_users"][0]["user"] == "ada"
    assert infos[4]["proxmox_tasks"]
