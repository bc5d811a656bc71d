"""Logical volumes for real: the contracts, and guests of both kinds on a thin pool."""

import json
from collections.abc import Iterator

import pytest

from framework.lab import INSIDE, Lab

GROUP = "labvg"
PYTEST = ("env", "TEST_PATIENCE=10", f"LAB_VG={GROUP}", f"{INSIDE}/.venv/bin/python", "-m", "pytest", "-q", "-n0",
          "-p", "no:cacheprovider", "-o", "timeout=3000")  # fmt: skip
CONTRACTS = ("tests/contract/test_block_contract.py", "tests/contract/test_storage_copies_contract.py")


@pytest.fixture(scope="module")
def group(lab: Lab) -> Iterator[str]:
    """A volume group with a thin pool on the lab's second disk, and room beside it."""
    lab.run("vgcreate", GROUP, "/dev/vdb")
    lab.run("lvcreate", "--type", "thin-pool", "--size", "2G", "--name", "thin", GROUP)
    yield GROUP
    lab.run("vgremove", "--force", "--force", "--yes", GROUP, check=False)


@pytest.mark.parametrize("suite", CONTRACTS)
def test_the_contracts_hold_on_a_real_group(lab: Lab, group: str, suite: str) -> None:
    done = lab.run(*PYTEST, suite, "-k", "real", cwd=INSIDE, seconds=3300, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert json.loads(lab.run("lvs", "--reportformat", "json", group).stdout)["report"][0]["lv"][1:] == []


@pytest.fixture(scope="module")
def thin(stocked: Lab, group: str) -> Iterator[Lab]:
    """The installed lab with the thin pool as its storage `thin`."""
    stocked.run("bastide", "storage", "add", "thin", "lvmthin", f"vgname={group}", "thinpool=thin")
    yield stocked
    for vmid in json.loads(stocked.run("bastide", "ls", "--json").stdout):
        stocked.run("bastide", "rm", str(vmid["vmid"]), "--force", "--yes", check=False)
    stocked.run("bastide", "storage", "rm", "thin", "--yes", check=False)


def test_a_container_goes_back_and_is_cloned(thin: Lab) -> None:
    (template,) = [
        row["volid"]
        for row in json.loads(thin.run("bastide", "api", "get", "/nodes/lab/storage/local/content").stdout)
        if row["content"] == "vztmpl" and "cloud" not in row["volid"]
    ][:1]
    create(thin, "/nodes/lab/lxc", "vmid=300", f"ostemplate={template}", "rootfs=thin:1", "unprivileged=1",
           "features=nesting=1")  # fmt: skip
    thin.run("bastide", "start", "300")
    thin.run("bastide", "exec", "300", "--", "sh", "-c", "echo before >/root/mark")
    thin.run("bastide", "snapshot", "300", "one")
    thin.run("bastide", "exec", "300", "--", "sh", "-c", "echo after >/root/mark")
    thin.run("bastide", "rollback", "300", "one", "--yes")
    thin.run("bastide", "start", "300", check=False)
    assert thin.run("bastide", "exec", "300", "--", "cat", "/root/mark").stdout == "before\n"
    create(thin, "/nodes/lab/lxc/300/clone", "newid=301", "full=1", "snapname=one")
    thin.run("bastide", "start", "301")
    assert thin.run("bastide", "exec", "301", "--", "cat", "/root/mark").stdout == "before\n"
    assert {"vm-300-disk-0", "snap_vm-300-disk-0_one", "vm-301-disk-0"} <= volumes(thin)


def test_a_disk_goes_back_and_is_cloned(thin: Lab) -> None:
    create(thin, "/nodes/lab/qemu", "vmid=310", "scsi0=thin:1", "memory=64")
    path = device("vm-310-disk-0")
    write(thin, path, "before")
    create(thin, "/nodes/lab/qemu/310/snapshot", "snapname=one")
    write(thin, path, "behind")
    thin.run("bastide", "rollback", "310", "one", "--yes")
    assert read(thin, path) == "before"
    create(thin, "/nodes/lab/qemu/310/clone", "newid=311", "full=1")
    assert read(thin, device("vm-311-disk-0")) == "before"
    thin.run("bastide", "api", "delete", "/nodes/lab/qemu/310/snapshot/one", "--wait")
    create(thin, "/nodes/lab/qemu/310/template")
    assert "base-310-disk-0" in volumes(thin)
    create(thin, "/nodes/lab/qemu/310/clone", "newid=312")
    assert read(thin, device("vm-312-disk-0")) == "before"


def create(lab: Lab, path: str, *values: str) -> None:
    """A POST whose task has to end well."""
    lab.run("bastide", "api", "create", path, *values, "--wait", seconds=1200)


def volumes(lab: Lab) -> set[str]:
    """The names of the logical volumes."""
    return set(lab.run("lvs", "--noheadings", "--options", "lv_name", GROUP).stdout.split())


def device(name: str) -> str:
    """The device of a logical volume."""
    return f"/dev/{GROUP}/{name}"


def write(lab: Lab, path: str, text: str) -> None:
    """Write to the beginning of a disk that no VM has open."""
    lab.run("lvchange", "--activate", "y", "--ignoreactivationskip", path)
    lab.run("dd", f"of={path}", "conv=notrunc,fsync", "status=none", stdin=text.encode())


def read(lab: Lab, path: str) -> str:
    """The six characters at the beginning of a disk."""
    lab.run("lvchange", "--activate", "y", "--ignoreactivationskip", path)
    return lab.run("head", "-c", "6", path).stdout
