"""The lists of snapshots, which clients read before they look at a guest."""

import pytest

from framework.api import Api, call
from framework.rooms import TEMPLATE

pytestmark = pytest.mark.anyio


async def test_a_guest_of_either_kind_has_its_present_state_alone(api: Api) -> None:
    assert await api.wait(await api.data("POST", "/nodes/pve/lxc", vmid=100, ostemplate=TEMPLATE)) == "OK"
    assert await api.wait(await api.data("POST", "/nodes/pve/qemu", vmid=101, start=1)) == "OK"
    for kind, vmid, running in (("lxc", 100, 0), ("qemu", 101, 1)):
        path = f"/nodes/pve/{kind}/{vmid}"
        digest = (await api.data("GET", f"{path}/config"))["digest"]
        row = {"name": "current", "description": "You are here!", "running": running, "digest": digest}
        assert await api.data("GET", f"{path}/snapshot") == [row]
        assert {"subdir": "snapshot"} in await api.data("GET", path)
    assert (await call(api.root, "GET", "/nodes/pve/lxc/101/snapshot")).status_code == 500
