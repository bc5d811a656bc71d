"""kill -9 of the daemon while a running VM's disk moves, at many points of it.

The VM has not begun to run (`freeze`): what QEMU does with its disks is the same, and costs no processor.
"""

import os
import re
import subprocess
import time
from pathlib import Path

import pytest

from bastide.base.ids import VolumeId
from bastide.operations.vm.move import token
from framework.host import Host, TaskFailed

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]
POINTS = 6
SIZE = 24 << 20


def volume(host: Host, vmid: int) -> str:
    return str(host.get(host.path(vmid, "/config"))["scsi0"]).partition(",")[0]


def check_whole(host: Host, vmid: int) -> None:
    """The record names the image that QEMU uses, nothing is copied any more, and no volume is without a name."""
    shown = host.post(host.path(vmid, "/monitor"), command="info block")
    node = re.search(r"^drive-scsi0(?:-(\w+))?:", shown, re.MULTILINE)
    assert node is not None, shown
    now = volume(host, vmid)
    assert node[1] in (None, token(VolumeId.parse(now))), (now, shown)
    assert "No active jobs" in host.post(host.path(vmid, "/monitor"), command="info block-jobs")
    assert len(re.findall(r"^drive-scsi0", host.post(host.path(vmid, "/monitor"), command="info block -n"), re.M)) == 1
    config = host.get(host.path(vmid, "/config"))
    named = {str(value).partition(",")[0] for key, value in config.items() if re.match(r"scsi\d|unused", key)}
    rows = host.get(f"/nodes/{host.node}/storage/local/content", content="images", vmid=vmid)
    assert {row["volid"] for row in rows} == named
    assert "lock" not in config


def test_a_move_survives_kill_nine_at_many_points(own_host: Host, tmp_path: Path) -> None:
    host = own_host
    image = tmp_path / "disk.raw"
    image.write_bytes(os.urandom(SIZE))
    vmid = host.create_vm(start=True, freeze=1, scsihw="virtio-scsi-pci", scsi0=f"local:0,import-from={image}")
    pid = host.get(host.path(vmid, "/status/current"))["pid"]
    began = time.monotonic()
    host.wait(host.post(host.path(vmid, "/move_disk"), disk="scsi0", format="qcow2", delete=1))
    whole = time.monotonic() - began
    print(f"a whole move took {whole:.2f} s")
    check_whole(host, vmid)
    ended = 0
    for point in range(POINTS):
        form = ("raw", "qcow2")[point % 2]
        upid = host.post(host.path(vmid, "/move_disk"), disk="scsi0", format=form, delete=point % 3 and 1)
        time.sleep(whole * 1.2 * point / POINTS)
        host.kill()
        host.start()
        ended += host.get(f"/nodes/{host.node}/tasks/{upid}/status")["exitstatus"] == "OK"
        assert host.get(host.path(vmid, "/status/current"))["pid"] == pid, "the guest goes on"
        check_whole(host, vmid)
    assert ended < POINTS, "some were killed"
    host.wait(host.post(host.path(vmid, "/move_disk"), disk="scsi0", format="raw", delete=1))
    check_whole(host, vmid)
    host.act(vmid, "stop")
    found = host.root / "state/storage/images" / volume(host, vmid).partition(":")[2]
    assert found.read_bytes() == image.read_bytes()


def test_a_move_is_slow_when_asked_and_can_be_stopped(own_host: Host, tmp_path: Path) -> None:
    host = own_host
    image = tmp_path / "disk.raw"
    image.write_bytes(os.urandom(SIZE))
    vmid = host.create_vm(start=True, freeze=1, virtio0=f"local:0,import-from={image}")
    before = host.get(host.path(vmid, "/config"))["virtio0"]
    upid = host.post(host.path(vmid, "/move_disk"), disk="virtio0", format="qcow2", bwlimit=1024)
    with pytest.raises(TaskFailed):
        host.wait(upid, 2)
    host.delete(f"/nodes/{host.node}/tasks/{upid}")
    with pytest.raises(TaskFailed, match="interrupt"):
        host.wait(upid)
    assert host.get(host.path(vmid, "/config"))["virtio0"] == before
    rows = host.get(f"/nodes/{host.node}/storage/local/content", content="images", vmid=vmid)
    assert [row["volid"] for row in rows] == [before.partition(",")[0]]
    host.wait(host.post(host.path(vmid, "/move_disk"), disk="virtio0", format="qcow2"))
    config = host.get(host.path(vmid, "/config"))
    assert config["unused0"] == before.partition(",")[0]
    moved = host.root / "state/storage/images" / config["virtio0"].partition(",")[0].partition(":")[2]
    host.act(vmid, "stop")
    subprocess.run(["qemu-img", "compare", "-f", "raw", "-F", "qcow2", str(image), str(moved)], check=True)
