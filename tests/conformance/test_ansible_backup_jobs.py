"""Clients nobody here wrote: Ansible puts guests into backup jobs and takes them out."""

import datetime
from collections.abc import Iterator
from typing import Any

import pytest

from framework.clients import Ansible, Login, Task
from framework.host import Host

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def ansible(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ansible]:
    """Ansible, and a host of its own."""
    with Host.launched(number=7) as host:
        yield Ansible(host, Login.make(host), tmp_path_factory.mktemp("ansible"))


def told(results: list[dict[str, Any]]) -> list[str]:
    """What each task did: changed, unchanged, or its error."""
    return [
        str(result["msg"]) if result["failed"] else "changed" if result["changed"] else "unchanged"
        for result in results
    ]


def schedule(state: str, **values: object) -> Task:
    return "proxmox_backup_schedule", {"state": state, **values}


def test_guests_in_and_out_of_jobs(ansible: Ansible) -> None:
    host = ansible.host
    one, two = host.create_vm(name="one", memory=64), host.create_vm(name="two", memory=64)
    host.post("/cluster/backup", id="nightly", vmid=f"{one}", schedule="mon..fri 02:30", storage="local")
    host.post("/cluster/backup", id="weekly", vmid=f"{one}", starttime="3:00", dow="sat", storage="local", enabled=0)
    host.put("/cluster/backup/weekly", enabled=1)
    results = ansible.play(
        schedule("present", vm_name="two", backup_id="nightly"),
        schedule("present", vm_id=str(two), backup_id="nightly"),
        schedule("present", vm_id=str(two), backup_id="weekly"),
        ("proxmox_backup_info", {}),
        ("proxmox_backup_info", {"vm_name": "two"}),
        ("proxmox_backup_info", {"vm_id": str(one)}),
        ("proxmox_backup_info", {"backup_jobs": True}),
        schedule("absent", vm_name="one", backup_id="nightly"),
        schedule("absent", vm_id=str(one), backup_id="nightly"),
        schedule("absent", vm_id=str(one)),
        schedule("absent", vm_id=str(two), backup_id="nightly"),
    )
    assert told(results) == [
        "changed", "unchanged", "changed",
        "unchanged", "unchanged", "unchanged", "unchanged",
        "changed", "unchanged", "changed",
        "No more than one vmid is assigned to nightly. You just can remove job.",
    ]  # fmt: skip
    every, ours, first, jobs = (result["backup_info"] for result in results[3:7])
    assert {(row["id"], row["vm_name"]) for row in every} == {
        ("nightly", "one"), ("nightly", "two"), ("weekly", "one"), ("weekly", "two"),
    }  # fmt: skip
    assert {row["id"] for row in ours} == {row["id"] for row in first} == {"nightly", "weekly"}
    row = next(row for row in ours if row["id"] == "weekly")
    assert (row["schedule"], row["bktype"], row["mode"], row["storage"]) == ("sat 3:00", "vzdump", "snapshot", "local")
    following = datetime.datetime.fromisoformat(row["next-run"])
    assert (following.weekday(), following.hour) == (5, 3)
    assert {job["id"] for job in jobs} == {"nightly", "weekly"}
    assert host.get("/cluster/backup/nightly")["vmid"] == str(two)
    assert host.get("/cluster/backup/weekly")["vmid"] == str(two)
