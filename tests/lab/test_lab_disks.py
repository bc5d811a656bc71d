"""The host's own disks with a real udev and device-mapper: listed, guarded, and made storages of each kind."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from framework.lab import Lab

SPARE = "/dev/vdb"


def bastide(lab: Lab, *argv: str) -> Any:
    """Run the installed program; what it prints as JSON."""
    done = lab.run("bastide", *argv, "--json")
    return json.loads(done.stdout) if done.stdout.strip() else None


def disks(lab: Lab) -> dict[str, Any]:
    """The disks and partitions by path."""
    return {row["devpath"]: row for row in bastide(lab, "api", "get", "/nodes/lab/disks/list", "include-partitions=1")}


@pytest.fixture
def spare(installed: Lab) -> Iterator[Lab]:
    """The lab with its second disk empty, before and after."""
    assert "used" not in disks(installed)[SPARE]
    yield installed
    assert "used" not in disks(installed)[SPARE]
    assert SPARE not in installed.run("pvs", "--noheadings").stdout
    assert "spare" not in installed.run("bastide", "storage", "ls").stdout


def test_what_is_in_use_is_told_and_not_touched(installed: Lab) -> None:
    told = disks(installed)
    assert (told["/dev/vda"]["used"], told["/dev/vda"]["mounted"]) == ("ext4", 1)
    assert told[SPARE]["size"] == 4 << 30
    for words in (("wipe", "/dev/vda", "--yes"), ("init", "/dev/vda"), ("make", "lvm", "spare", "/dev/vda", "--yes")):
        done = installed.run("bastide", "disks", *words, check=False)
        assert done.returncode != 0
        assert "mounted at /" in done.stderr, done.stderr
    assert installed.run("test", "-e", "/dev/mapper/spare", check=False).returncode != 0


def test_a_disk_without_smart_says_so(installed: Lab) -> None:
    done = installed.run("bastide", "disks", "smart", SPARE, check=False)
    assert done.returncode != 0
    assert "smartctl" in done.stderr, done.stderr


def test_a_partition_table_comes_and_goes(spare: Lab) -> None:
    spare.run("bastide", "disks", "init", SPARE)
    assert spare.run("lsblk", "--nodeps", "--noheadings", "--output", "PTTYPE", SPARE).stdout.strip() == "gpt"
    assert disks(spare)[SPARE]["gpt"] == 1
    done = spare.run("bastide", "disks", "init", SPARE, check=False)
    assert "has a GPT already" in done.stderr
    spare.run("sfdisk", "--quiet", SPARE, stdin=b"size=1G\nsize=1G\n")
    spare.run("mkfs.ext4", "-q", f"{SPARE}1")
    spare.run("mount", f"{SPARE}1", "/mnt")
    try:
        for path in (SPARE, f"{SPARE}1"):
            done = spare.run("bastide", "disks", "wipe", path, "--yes", check=False)
            assert "mounted at /mnt" in done.stderr, done.stderr
    finally:
        spare.run("umount", "/mnt")
    spare.run("bastide", "disks", "wipe", SPARE, "--yes")
    assert f"{SPARE}1" not in disks(spare)


@pytest.mark.parametrize("kind", ["lvm", "lvmthin", "dir"])
def test_a_storage_is_made_of_a_disk_and_taken_apart(spare: Lab, kind: str) -> None:
    spare.run("bastide", "disks", "make", kind, "spare", SPARE, "--yes", seconds=1200)
    assert bastide(spare, "api", "get", "/nodes/lab/storage/spare/status")["active"] == 1
    path = "/nodes/lab/storage/spare/content"
    file = "vm-999-disk-0.raw" if kind == "dir" else "vm-999-disk-0"
    spare.run("bastide", "api", "create", path, "vmid=999", f"filename={file}", "size=64M")
    (row,) = bastide(spare, "api", "get", path)
    assert row["size"] == 64 << 20
    done = spare.run("bastide", "disks", "wipe", SPARE, "--yes", check=False)
    assert "is in use" in done.stderr, done.stderr
    spare.run("bastide", "storage", "rm-volume", row["volid"], "--yes")
    name = "spare/spare" if kind == "lvmthin" else "spare"
    spare.run("bastide", "disks", "rm", kind, name, "--wipe", "--yes", seconds=1200)
