"""How long a running VM stands still for a backup, while it writes all the time."""

import re
from pathlib import Path

import pytest

from bench.conftest import Report, median
from framework.host import Host
from framework.vms import counting_disk

pytestmark = [pytest.mark.bench, pytest.mark.timeout(1800)]

ROUNDS = 10
BAR = 1000  # ms


def test_a_backup_freezes_a_vm_for_less_than_a_second(host: Host, report: Report, tmp_path: Path) -> None:
    disk = counting_disk(tmp_path / "counting.raw", 2 << 30)
    vmid = host.create_vm(
        start=True, scsihw="virtio-scsi-single", boot="order=scsi0", tpmstate0="local:1,version=v2.0",
        scsi0=f"local:0,import-from={disk},format=raw,iothread=1", virtio1="local:1,format=qcow2", sata0="local:1",
    )  # fmt: skip
    stood = []
    for _ in range(ROUNDS):
        log = host.wait(host.post(f"/nodes/{host.node}/vzdump", vmid=vmid, mode="snapshot", compress="zstd", remove=0))
        found = re.search(r"guest was frozen for (\d+) ms", log)
        assert found is not None
        stood.append(float(found[1]))
        for row in host.get(f"/nodes/{host.node}/storage/local/content", content="backup", vmid=vmid):
            host.wait(host.delete(f"/nodes/{host.node}/storage/local/content/{row['volid']}"))
    host.act(vmid, "stop")
    host.wait(host.delete(host.path(vmid)))
    longest = max(stood)
    report.add(
        "freeze of a VM with three disks and a TPM", f"{median(stood):.0f} ms", "-", f"at most {longest:.0f} ms",
        f"{BAR} ms", met=longest < BAR,
    )  # fmt: skip
    assert longest < BAR
