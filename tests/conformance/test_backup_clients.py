"""Clients nobody here wrote: Ansible's proxmox_backup and proxmoxer save real containers, and bring them back."""

from collections.abc import Iterator
from typing import Any

import pytest
from proxmoxer import ProxmoxAPI, ResourceException
from proxmoxer.tools import Tasks

from framework.clients import TOKEN, USER, Ansible, Login, Task
from framework.evil import put_template
from framework.host import Host
from framework.roots import busybox_tar

pytestmark = [pytest.mark.system, pytest.mark.filterwarnings("ignore:Unverified HTTPS")]


class Bench:
    """A host with two containers, and who speaks to it."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.login = Login.make(host)
        self.vmids = [host.new_vmid(), host.new_vmid()]
        template = put_template(host, "local", busybox_tar())
        for vmid in self.vmids:
            values = {"unprivileged": 1, "memory": 64, "hostname": f"ct{vmid}", "rootfs": "local:0.125"}
            host.wait(host.post(f"/nodes/{host.node}/lxc", vmid=vmid, ostemplate=template, **values))

    def backups(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.host.get(f"/nodes/{self.host.node}/storage/local/content", content="backup")
        return rows


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with pytest.MonkeyPatch.context() as patch, Host.launched(number=9) as host:
        for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):  # they defeat verify_ssl=False
            patch.delenv(name, raising=False)
        yield Bench(host)


def test_ansible_saves_guests(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> None:
    ansible = Ansible(bench.host, bench.login, tmp_path_factory.mktemp("ansible"))
    one, two = bench.vmids
    bench.host.post("/pools", poolid="shop")
    bench.host.put("/pools", poolid="shop", vms=two)

    def backup(**values: object) -> Task:
        return "proxmox_backup", {"storage": "local", "wait": True, "wait_timeout": 120, **values}

    results = ansible.play(
        backup(mode="include", vmids=[one], compress="zstd", compression_threads=2, protected=True,
               description="{{ '{{' }}guestname{{ '}}' }}", backup_mode="stop", bandwidth=1048576),
        backup(mode="pool", pool="shop", compress="gzip", retention="keep-last=1"),
        backup(mode="all", compress="0", retention="keep-last=1", wait=False),
        backup(mode="include", vmids=[99999], wait_timeout=20),
        backup(mode="all", storage="nowhere"),
    )  # fmt: skip
    assert [bool(result["failed"]) for result in results] == [False, False, False, True, True], results
    assert [result.get("msg") for result in results[:3]] == ["Backups succeeded"] * 2 + ["Backup tasks created"]
    for entry in results[2]["backups"]:
        bench.host.wait(entry["upid"])
    rows = bench.backups()
    assert sorted((row["vmid"], row["format"], row.get("notes")) for row in rows) == sorted(
        [(one, "tar.zst", f"ct{one}"), (one, "tar", f"ct{one}"), (two, "tar", f"ct{two}")]
    )
    assert [row["format"] for row in rows if row.get("protected")] == ["tar.zst"]


def test_proxmoxer_saves_and_restores(bench: Bench) -> None:
    where = {"port": bench.host.port, "verify_ssl": False, "timeout": 60}
    pve: Any = ProxmoxAPI("127.0.0.1", user=USER, token_name=TOKEN, token_value=bench.login.token, **where)
    node, vmid, copy = pve.nodes(bench.host.node), bench.vmids[0], bench.host.new_vmid()

    def done(upid: str) -> None:
        status = Tasks.blocking_status(pve, upid, timeout=120, polling_interval=0.1)
        assert status is not None, "the task did not end"
        assert status["exitstatus"] == "OK", Tasks.decode_log(node.tasks(upid).log.get())

    assert node.vzdump.defaults.get(storage="local")["mode"] == "snapshot"
    before = {row["volid"] for row in bench.backups()}
    done(node.vzdump.post(vmid=vmid, storage="local", compress="zstd", mode="snapshot", **{"exclude-path": ["/srv"]}))
    (volid,) = {row["volid"] for row in node.storage("local").content.get(content="backup", vmid=vmid)} - before
    assert f"hostname: ct{vmid}" in node.vzdump.extractconfig.get(volume=volid)
    node.storage("local").content(volid).put(notes="kept", protected=1)
    shown = node.storage("local").content(volid).get()
    assert (shown["notes"].strip(), shown["protected"], shown["format"]) == ("kept", 1, "tar.zst")
    with pytest.raises(ResourceException, match="protected"):
        node.storage("local").content(volid).delete()
    done(node.lxc.post(vmid=copy, ostemplate=volid, restore=1, storage="local", unique=1))
    assert node.lxc(copy).config.get()["hostname"] == f"ct{vmid}"
    with pytest.raises(ResourceException, match="already exists"):
        node.lxc.post(vmid=copy, ostemplate=volid, restore=1, storage="local")
    done(node.lxc.post(vmid=copy, ostemplate=volid, restore=1, storage="local", force=1, hostname="other"))
    assert node.lxc(copy).config.get()["hostname"] == "other"
    done(node.lxc(copy).delete())
    node.storage("local").content(volid).put(protected=0)
    done(node.storage("local").content(volid).delete())
    assert {row["volid"] for row in bench.backups()} == before
    with pytest.raises(ResourceException) as refused:
        node.vzdump.post(vmid=999_999)
    assert (refused.value.status_code, list(refused.value.errors or {})) == (400, ["vmid"])
