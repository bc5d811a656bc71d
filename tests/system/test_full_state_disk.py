"""The disk of the state folder is full: what writes is refused in words, what reads works, guests run, no restart."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bastide.base.units import MIB
from framework.disposable import mounted
from framework.filling import full
from framework.host import ApiFailure, Host, TaskFailed

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

READS = ("/version", "/storage", "/cluster/resources", "/cluster/tasks", "/nodes/{node}/status", "/nodes/{node}/qemu")


@pytest.fixture(params=["ext4", "btrfs"])
def host(request: pytest.FixtureRequest) -> Iterator[Host]:
    """A host that lies on a small disk."""
    temporary = tempfile.TemporaryDirectory(prefix="bst-", dir="/var/tmp")
    with temporary as place, mounted(request.param, Path(place), 160 * MIB) as folder:
        root = folder / "h"
        root.mkdir()
        made = Host(root, number=8)
        try:
            made.start()
            yield made
        finally:
            made.dispose()


def _write_until_refused(host: Host, vmid: int) -> ApiFailure:
    """Write ever more until something is refused; what is in the record then is what was told."""
    said = ""
    for number in range(4000):
        text = f"{number} {'x' * 4000}"
        try:
            host.put(host.path(vmid, "/config"), description=text)
        except ApiFailure as failure:
            assert str(host.get(host.path(vmid, "/config")).get("description", "")).strip() == said
            return failure
        said = text
    raise AssertionError("nothing was refused")


def test_a_full_state_disk(host: Host) -> None:
    vmid = host.create_vm(start=True, freeze=1)
    pid = host.get(host.path(vmid, "/status/current"))["pid"]
    process = host.process
    assert process is not None
    with full(host.root / "state" / "ballast"):
        refused = _write_until_refused(host, vmid)
        assert refused.status >= 500
        assert "full" in refused.message
        assert "internal error" not in refused.message
        for path in READS:
            host.get(path.format(node=host.node))
        for path, values in (("/pools", {"poolid": "p"}), (f"/nodes/{host.node}/qemu", {"vmid": host.new_vmid()})):
            with contextlib.suppress(TaskFailed), pytest.raises(ApiFailure, match=r"full|[Nn]o space"):
                host.wait(host.post(path, **values))
        assert host.get(host.path(vmid, "/status/current"))["pid"] == pid
    assert process.poll() is None, "the daemon goes on"
    host.put(host.path(vmid, "/config"), description="with room")
    assert "lock" not in host.get(host.path(vmid, "/config"))
    host.act(vmid, "stop")
    host.act(vmid, "start")
    assert "Traceback" not in host.daemon_log()
    host.kill()
    host.start()
    assert str(host.get(host.path(vmid, "/config"))["description"]).strip() == "with room"
    os.kill(host.get(host.path(vmid, "/status/current"))["pid"], 0)
