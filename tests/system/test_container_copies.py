"""Snapshots, clones, templates, moves and sizes of real Debian containers through the public API."""

import contextlib
from collections.abc import Iterator

import pytest

from framework.host import ApiFailure, Host, TaskFailed

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

_KEY = "/etc/ssh/ssh_host_ed25519_key.pub"


@pytest.fixture(scope="module")
def first(host: Host) -> int:
    """A running container with some data."""
    vmid = host.create(start=True, hostname="first", rootfs="local:1")
    host.wait_booted(vmid)
    host.execute(vmid, "sh", "-c", "echo one > /root/data; mkdir -p /srv/d; chown 1000:33 /srv/d; chmod 2750 /srv/d")
    return vmid


@pytest.fixture(scope="module")
def second(host: Host) -> Iterator[str]:
    """Another storage."""
    host.post("/storage", storage="second", type="dir", path=str(host.root / "second"), content="rootdir")
    yield "second"
    with contextlib.suppress(ApiFailure):
        host.delete("/storage/second")


def _snapshot(host: Host, vmid: int, name: str) -> None:
    host.wait(host.post(host.path(vmid, "/snapshot"), snapname=name, description=f"about {name}"))


def _clone(host: Host, vmid: int, **options: object) -> int:
    newid = host.new_vmid()
    host.wait(host.post(host.path(vmid, "/clone"), newid=newid, **options))
    return newid


def _remove(host: Host, *vmids: int) -> None:
    for vmid in vmids:
        host.wait(host.delete(host.path(vmid), force=1))


def _identity(host: Host, vmid: int) -> set[str]:
    """What has to differ between two guests."""
    config = host.get(host.path(vmid, "/config"))
    asked = f"cat /etc/machine-id; hostname; cat {_KEY}; cat /proc/self/uid_map"
    told = {line.strip() for line in host.execute(vmid, "sh", "-c", asked, check=False).splitlines()} - {""}
    assert len(told) >= 3, told
    return {*told, config["net0"].partition("hwaddr=")[2][:17], host.wait_address(vmid)}


def test_there_and_back_while_it_runs(host: Host, first: int) -> None:
    born = host.execute(first, "cat", "/proc/1/stat").split()[21]
    _snapshot(host, first, "one")
    assert host.execute(first, "cat", "/proc/1/stat").split()[21] == born
    host.execute(first, "sh", "-c", "echo two > /root/data")
    _snapshot(host, first, "two")
    rows = host.get(host.path(first, "/snapshot"))
    assert [(row["name"], row.get("parent")) for row in rows] == [("one", None), ("two", "one"), ("current", "two")]
    assert rows[-1]["running"] == 1
    assert host.get(host.path(first, "/config"), snapshot="one")["hostname"] == "first"
    host.wait(host.post(host.path(first, "/snapshot/one/rollback"), start=1))
    assert host.execute(first, "cat", "/root/data").strip() == "one"
    host.wait(host.post(host.path(first, "/snapshot/two/rollback")))
    assert host.get(host.path(first, "/status/current"))["status"] == "stopped"
    host.act(first, "start")
    assert host.execute(first, "cat", "/root/data").strip() == "two"
    host.wait(host.delete(host.path(first, "/snapshot/two")))
    assert [row["name"] for row in host.get(host.path(first, "/snapshot"))] == ["one", "current"]


def test_a_clone_has_an_identity_of_its_own(host: Host, first: int, second: str) -> None:
    host.execute(first, "sh", "-c", "echo now > /root/data")
    here = _clone(host, first, hostname="here")
    there = _clone(host, first, storage=second, snapname="one")
    for vmid in (here, there):
        host.act(vmid, "start")
    assert host.execute(here, "cat", "/root/data").strip() == "now"
    assert host.execute(there, "cat", "/root/data").strip() == "one"
    assert host.execute(there, "hostname").strip() == f"first-{there}"
    assert host.execute(there, "stat", "-c", "%u:%g %a", "/srv/d").strip() == "1000:33 2750"
    told = [_identity(host, vmid) for vmid in (first, here, there)]
    assert len(set.union(*told)) == sum(len(one) for one in told)
    assert [row["name"] for row in host.get(host.path(first, "/snapshot"))] == ["one", "current"]
    _remove(host, here, there)


def test_a_template_and_two_linked_clones(host: Host) -> None:
    template = host.create(hostname="base", rootfs="local:1")
    host.wait(host.post(host.path(template, "/template")))
    assert {row["vmid"]: row for row in host.get(f"/nodes/{host.node}/lxc")}[template]["template"] == 1
    with pytest.raises(ApiFailure, match="template"):
        host.act(template, "start")
    assert host.get(host.path(template, "/feature"), feature="clone")["hasFeature"] == 1
    clones = [_clone(host, template) for _ in range(2)]
    for vmid in clones:
        assert f"base-{template}" in host.get(host.path(vmid, "/config"))["rootfs"]
        host.act(vmid, "start")
    for vmid in clones:
        host.execute(vmid, "sh", "-c", f"echo {vmid} > /root/data")
    assert [host.execute(vmid, "cat", "/root/data").strip() for vmid in clones] == [str(vmid) for vmid in clones]
    told = [_identity(host, vmid) for vmid in clones]
    assert len(set.union(*told)) == sum(len(one) for one in told)
    with pytest.raises(TaskFailed, match="still in use by linked clones"):
        host.wait(host.delete(host.path(template)))
    _remove(host, *clones, template)


def test_a_volume_moves_and_shrinks(host: Host, first: int, second: str) -> None:
    vmid = _clone(host, first, hostname="mover")
    host.wait(host.post(host.path(vmid, "/move_volume"), volume="rootfs", storage=second, delete=1))
    config = host.get(host.path(vmid, "/config"))
    assert config["rootfs"].startswith("second:")
    assert not [key for key in config if key.startswith("unused")]
    host.wait(host.put(host.path(vmid, "/resize"), disk="rootfs", size="+512M"))
    host.wait(host.put(host.path(vmid, "/resize"), disk="rootfs", size="768M"))
    with pytest.raises(TaskFailed, match="shrink"):
        host.wait(host.put(host.path(vmid, "/resize"), disk="rootfs", size="64M"))
    assert "size=768M" in host.get(host.path(vmid, "/config"))["rootfs"]
    host.act(vmid, "start")
    assert host.execute(vmid, "stat", "-c", "%u:%g %a", "/srv/d").strip() == "1000:33 2750"
    _remove(host, vmid)
    assert host.get(f"/nodes/{host.node}/storage/second/content", vmid=vmid) == []
