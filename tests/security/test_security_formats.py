"""What a guest writes into a raw disk, through all that can be done with the disk, with a look at what is executed.

Attack classes 2 (formats are said, never probed) and 11 (no shell, no value as an argument), on a real daemon.
"""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from framework.evil import Canary, canary, put_template, try_create
from framework.exec_trace import executed
from framework.host import ApiFailure, Host, TaskFailed
from framework.roots import busybox_tar

pytestmark = [pytest.mark.system, pytest.mark.timeout(400)]

MARK = "zq7evil"


@pytest.fixture
def bird() -> Iterator[Canary]:
    """A canary that must be as it was when the test ends."""
    with canary() as made:
        yield made
        made.check()


def is_explicit(argv: list[str]) -> bool:
    """Whether a call of qemu-img(1) or qemu-nbd(8) leaves no format to be probed: of what it reads, and of a target."""
    images = [json.loads(word.removeprefix("json:")) for word in argv if word.startswith("json:")]
    target = "-O" in argv or "convert" not in argv
    if images:
        return target and all(map(names_drivers, images))
    return target and "-f" in argv and ("-b" not in argv or "-F" in argv)


def names_drivers(node: Any) -> bool:
    """Whether a block node and all below it name their drivers."""
    below = [part for part in node.values() if isinstance(part, dict)]
    return "driver" in node and all(map(names_drivers, below))


def test_the_measure_sees_a_format_that_is_not_said() -> None:
    """What the test below measures by."""
    assert is_explicit(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", "/0", "/1"])
    raw = 'json:{"driver": "raw", "file": {"driver": "file", "filename": "/0"}}'
    assert is_explicit(["qemu-img", "convert", "-O", "raw", raw, "/1"])
    assert not is_explicit(["qemu-img", "convert", raw, "/1"])
    assert not is_explicit(["qemu-img", "convert", "-O", "qcow2", "/0", "/1"])
    assert not is_explicit(["qemu-img", "convert", "-O", "raw", 'json:{"file": {"driver": "file"}}', "/1"])
    assert not is_explicit(["qemu-img", "create", "-f", "qcow2", "-b", "/0", "/1"])
    assert not is_explicit(["qemu-nbd", "-k", "/x", "/0"])


def evil_disk(host: Host, bird: Canary, tmp_path: Path) -> tuple[int, bytes]:
    """A VM whose raw disk begins with a qcow2 header that names the canary: its vmid, and the header."""
    file = tmp_path / "evil.qcow2"
    options = ["-u", "-f", "qcow2", "-b", str(bird.folder / "passwd"), "-F", "raw"]
    subprocess.run(["qemu-img", "create", "-q", *options, str(file), "64M"], check=True)
    header = file.read_bytes()
    vmid = host.create_vm(scsi0="local:0.0625,format=raw", description=f"$(touch /tmp/{MARK})\n`id`;{MARK}", tags="a")
    with volume(host, vmid).open("r+b") as opened:
        opened.write(header)
        os.fsync(opened.fileno())
    return vmid, header


def volume(host: Host, vmid: int) -> Path:
    """The file of a VM's disk."""
    volid = str(host.get(host.path(vmid, "/config"))["scsi0"]).partition(",")[0]
    return host.root / "state/storage/images" / volid.partition(":")[2]


def through_everything(host: Host, vmid: int) -> list[int]:
    """Do with the disk whatever can be done with one; returns the VMs that came of it."""
    made = [host.new_vmid(), host.new_vmid(), host.new_vmid()]
    host._vms.update(made)
    host.act(vmid, "start")
    host.act(vmid, "stop")
    host.wait(host.put(host.path(vmid, "/resize"), disk="scsi0", size="+1M"))
    try:
        host.wait(host.post(host.path(vmid, "/snapshot"), snapname="one", description=f"{MARK};id"))
        host.wait(host.post(host.path(vmid, "/snapshot/one/rollback")))
        host.wait(host.delete(host.path(vmid, "/snapshot/one")))
    except (ApiFailure, TaskFailed) as error:
        assert "raw" in str(error) or "snapshot" in str(error)  # noqa: PT017 - this file system has none of raw disks
    host.wait(host.post(host.path(vmid, "/clone"), newid=made[0], full=1, name="copy"))
    host.wait(host.post(host.path(vmid, "/move_disk"), disk="scsi0", format="qcow2", delete=1))
    host.wait(host.post(host.path(vmid, "/move_disk"), disk="scsi0", format="raw", delete=1))
    told = host.wait(host.post(f"/nodes/{host.node}/vzdump", vmid=vmid, storage="local", mode="stop", compress="zstd"))
    archive = next(word.strip("'") for word in told.split() if "vzdump-qemu-" in word)
    volid = f"local:backup/{Path(archive).name}"
    host.wait(host.post(f"/nodes/{host.node}/qemu", vmid=made[1], archive=volid, storage="local"))
    host.wait(host.delete(f"/nodes/{host.node}/storage/local/content/{volid}"))
    host.wait(host.post(host.path(vmid, "/template")))
    host.wait(host.post(host.path(vmid, "/clone"), newid=made[2], full=0, name="linked"))
    host.act(made[2], "start")
    host.act(made[2], "stop")
    return made


def test_no_format_is_probed_whatever_is_done_with_a_disk(host: Host, bird: Canary, tmp_path: Path) -> None:
    """ATTACKS 2 and 11: start, resize, snapshot, clone, move, backup, restore, template, linked clone.

    Without the drivers' names in `host/image_sources.py` this fails, and so does a call by a shell.
    """
    assert host.process is not None
    vmid, header = evil_disk(host, bird, tmp_path)
    with executed(host.process.pid) as calls:
        made = through_everything(host, vmid)
        container, told = try_create(host, put_template(host, "small", busybox_tar()), description=f"$({MARK});id")
        assert container is not None, told
        host.act(container, "start")
        host.wait(host.delete(host.path(container), force=1))
    tools = [argv for argv in calls if Path(argv[0]).name in ("qemu-img", "qemu-nbd")]
    assert len(tools) >= 3, calls
    assert [argv for argv in tools if not is_explicit(argv)] == []
    machines = [argv for argv in calls if "-blockdev" in argv]
    assert machines, "QEMU was started under the eyes of the test"
    drives = [word for argv in machines for word, before in zip(argv[1:], argv, strict=False) if before == "-blockdev"]
    assert [word for word in drives if '"driver"' not in word] == []
    assert [argv for argv in calls if Path(argv[0]).name in ("sh", "bash", "dash") and "-c" in argv] == []
    assert [argv for argv in calls if MARK in " ".join(argv)] == []
    assert not Path(f"/tmp/{MARK}").exists()
    for one in made[:2]:
        with volume(host, one).open("rb") as opened:
            assert opened.read(len(header))[:512] == header[:512], "what the guest wrote is what it is"
    for file in (host.root / "state/storage/images").rglob("*"):
        if file.is_file():
            with file.open("rb") as opened:
                assert bird.secret.encode() not in opened.read(8 << 20), file
    for one in [*reversed(made), vmid]:
        host.wait(host.delete(host.path(one)))
