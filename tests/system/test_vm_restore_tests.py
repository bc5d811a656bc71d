"""Restore tests of VMs: one that boots, by what its serial port says, and one that does not."""

from collections.abc import Iterator

import pytest

from framework.host import Host, TaskFailed
from framework.vma_files import vma
from framework.vms import login_disk

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

_TESTS = "/bastide/backup/tests"
_CONFIG = """\
boot: order=scsi0
memory: 32
name: shop
net0: virtio=BC:24:11:04:4F:5E,bridge=elsewhere
onboot: 1
protection: 1
scsi0: tank:vm-200-disk-0,size=1M
scsihw: virtio-scsi-single
serial0: socket
"""


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    """A host with the backups of two VMs that are no more."""
    with Host.launched(number=5) as launched:
        dump = launched.root / "state/storage/dump"
        for vmid, disk in ((200, login_disk()), (201, bytes(1 << 20))):
            data = vma({"qemu-server.conf": _CONFIG.encode()}, {"drive-scsi0": disk})
            (dump / f"vzdump-qemu-{vmid}-2026_01_01-01_00_00.vma").write_bytes(data)
        yield launched


def test_what_boots_and_what_does_not(host: Host) -> None:
    host.wait(host.post(_TESTS, vmid=200))
    with pytest.raises(TaskFailed, match="1 of 1 restore tests failed"):
        host.wait(host.post(_TESTS, vmid=201, timeout=10))
    empty, bootable = host.get(_TESTS)
    assert (bootable["ok"], bootable["output"]) == (True, "serial port 0 asks for a login")
    assert (empty["ok"], empty["step"], empty["reason"]) == (False, "boot", "it was not up within 10 seconds")
    assert host.get("/cluster/resources", type="vm") == []
    assert host.get(f"/nodes/{host.node}/storage/local/content", content="images") == []
