"""Clients nobody here wrote save real guests and bring them back: Ansible's modules, proxmoxer, proxctl."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from proxmoxer import ProxmoxAPI, ResourceException
from proxmoxer.tools import Tasks

from framework.clients import TOKEN, USER, Ansible, Login, Task, proxctl
from framework.evil import put_template
from framework.host import Host
from framework.roots import busybox_tar
from framework.shapes import differences

pytestmark = [pytest.mark.system, pytest.mark.filterwarnings("ignore:Unverified HTTPS")]

_SECONDS = 120
_NAME = "{{ '{{' }}guestname{{ '}}' }}"
"""What Bastide fills in, and Ansible does not."""


class Bench:
    """A host with two containers, a VM that runs, and who speaks to it."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.login = Login.make(host)
        self.vmids = [host.new_vmid(), host.new_vmid()]
        template = put_template(host, "local", busybox_tar())
        for vmid in self.vmids:
            values = {"unprivileged": 1, "memory": 64, "hostname": f"ct{vmid}", "rootfs": "local:0.125"}
            host.wait(host.post(f"/nodes/{host.node}/lxc", vmid=vmid, ostemplate=template, **values))
        self.vm = host.create_vm(name="db", start=True, scsi0="local:0.03125")

    def backups(self, vmid: int | None = None) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.host.get(
            f"/nodes/{self.host.node}/storage/local/content", content="backup", vmid=vmid
        )
        return rows


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with pytest.MonkeyPatch.context() as patch, Host.launched(number=9) as host:
        for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):  # they defeat verify_ssl=False
            patch.delenv(name, raising=False)
        yield Bench(host)


@pytest.fixture
def described(reference: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """(method, path) -> the shape of what the reference says is returned."""
    entries = json.loads((reference / "pve-api-9.1.json").read_text())
    return {(entry["method"], entry["path"]): entry["returns"] for entry in entries}


def test_ansible_saves_guests(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> None:
    ansible = Ansible(bench.host, bench.login, tmp_path_factory.mktemp("ansible"))
    (one, two), vm = bench.vmids, bench.vm
    bench.host.post("/pools", poolid="shop")
    bench.host.put("/pools", poolid="shop", vms=two)

    def backup(**values: object) -> Task:
        return "proxmox_backup", {"storage": "local", "wait": True, "wait_timeout": _SECONDS, **values}

    results = ansible.play(
        backup(mode="include", vmids=[one], compress="zstd", compression_threads=2, protected=True,
               description=_NAME, backup_mode="stop", bandwidth=1048576),
        backup(mode="include", vmids=[vm], compress="zstd", fleecing="enabled=1,storage=local",
               performance_tweaks="max-workers=2, pbs-entries-max=8192", change_detection_mode="metadata",
               notification_mode="notification-system", node=bench.host.node),
        backup(mode="pool", pool="shop", compress="gzip", retention="keep-last=1", backup_mode="suspend"),
        backup(mode="all", compress="0", retention="keep-last=1, keep-daily=2", wait=False),
        backup(mode="include", vmids=[99999], wait_timeout=20),
        backup(mode="all", storage="nowhere"),
        backup(mode="all", node="elsewhere"),
    )  # fmt: skip
    assert [bool(result["failed"]) for result in results] == [False] * 4 + [True] * 3, results
    assert [result.get("msg") for result in results[:4]] == ["Backups succeeded"] * 3 + ["Backup tasks created"]
    assert "Finished Backup" in results[1]["backups"][0]["log"]
    for entry in results[3]["backups"]:
        bench.host.wait(entry["upid"])
    # The VM's first one went: of those that are not protected the newest stays.
    expected = {(one, "tar.zst", f"ct{one}"), (one, "tar", f"ct{one}"), (two, "tar", f"ct{two}"), (vm, "vma", "db")}
    rows = bench.backups()
    assert sorted((row["vmid"], row["format"], row.get("notes")) for row in rows) == sorted(expected)
    assert [row["format"] for row in rows if row.get("protected")] == ["tar.zst"]


def test_ansible_restores_a_vm(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A container's backup it takes for a template alone."""
    ansible = Ansible(bench.host, bench.login, tmp_path_factory.mktemp("ansible"))
    host, node, copy, other = bench.host, bench.host.node, bench.host.new_vmid(), bench.host.new_vmid()
    saved = {row["vmid"]: row["volid"] for row in bench.backups()}
    restored = {"node": node, "vmid": copy, "name": "copy", "archive": saved[bench.vm], "storage": "local"}
    results = ansible.play(
        ("proxmox_kvm", restored),
        ("proxmox_kvm", {**restored, "force": True}),
        ("proxmox_storage_contents_info", {"node": node, "storage": "local", "content": "backup", "vmid": bench.vm}),
        ("proxmox", {"node": node, "vmid": other, "hostname": "other", "ostemplate": saved[bench.vmids[1]],
                     "storage": "local", "disk": "local:1", "timeout": _SECONDS}),
    )  # fmt: skip
    assert [(bool(one["failed"]), bool(one["changed"])) for one in results[:3]] == [
        (False, True), (False, False), (False, False),
    ], results  # fmt: skip
    config = host.get(f"/nodes/{node}/qemu/{copy}/config")
    assert (config["name"], config["scsi0"].startswith(f"local:{copy}/")) == ("copy", True)
    assert {row["volid"] for row in results[2]["proxmox_storage_content"]} == {saved[bench.vm]}
    assert "is not a container template" in results[3]["msg"], results[3]
    host.wait(host.delete(f"/nodes/{node}/qemu/{copy}"))


class Proxmoxer:
    """proxmoxer at a host."""

    def __init__(self, bench: Bench) -> None:
        where = {"port": bench.host.port, "verify_ssl": False, "timeout": 60}
        self.pve: Any = ProxmoxAPI("127.0.0.1", user=USER, token_name=TOKEN, token_value=bench.login.token, **where)
        self.node = self.pve.nodes(bench.host.node)
        self.local = self.node.storage("local")

    def done(self, upid: str) -> None:
        """Wait for a task, which has to end well."""
        status = Tasks.blocking_status(self.pve, upid, timeout=_SECONDS, polling_interval=0.1)
        assert status is not None, "the task did not end"
        assert status["exitstatus"] == "OK", Tasks.decode_log(self.node.tasks(upid).log.get())


def test_proxmoxer_saves_and_restores(bench: Bench) -> None:
    client, vmid, copy = Proxmoxer(bench), bench.vmids[0], bench.host.new_vmid()
    node, local, done = client.node, client.local, client.done
    assert node.vzdump.defaults.get(storage="local")["mode"] == "snapshot"
    before = {row["volid"] for row in bench.backups()}
    done(node.vzdump.post(vmid=vmid, storage="local", compress="zstd", mode="snapshot", **{"exclude-path": ["/srv"]}))
    (volid,) = {row["volid"] for row in local.content.get(content="backup", vmid=vmid)} - before
    assert f"hostname: ct{vmid}" in node.vzdump.extractconfig.get(volume=volid)
    local.content(volid).put(notes="kept", protected=1)
    shown = local.content(volid).get()
    assert (shown["notes"].strip(), shown["protected"], shown["format"]) == ("kept", 1, "tar.zst")
    with pytest.raises(ResourceException, match="protected"):
        local.content(volid).delete()
    done(node.lxc.post(vmid=copy, ostemplate=volid, restore=1, storage="local", unique=1))
    assert node.lxc(copy).config.get()["hostname"] == f"ct{vmid}"
    with pytest.raises(ResourceException, match="already exists"):
        node.lxc.post(vmid=copy, ostemplate=volid, restore=1, storage="local")
    done(node.lxc.post(vmid=copy, ostemplate=volid, restore=1, storage="local", force=1, hostname="other"))
    assert node.lxc(copy).config.get()["hostname"] == "other"
    done(node.lxc(copy).delete())
    local.content(volid).put(protected=0)
    done(local.content(volid).delete())
    assert {row["volid"] for row in bench.backups()} == before
    with pytest.raises(ResourceException) as refused:
        node.vzdump.post(vmid=999_999)
    assert (refused.value.status_code, list(refused.value.errors or {})) == (400, ["vmid"])


def test_proxmoxer_takes_files_out_and_prunes(bench: Bench) -> None:
    client, (one, two) = Proxmoxer(bench), bench.vmids
    node, local, done = client.node, client.local, client.done
    with pytest.raises(ResourceException):
        node.vzdump.post(vmid=f"{one},{two}", all=1)
    for _ in range(2):
        done(node.vzdump.post(vmid=f"{one},{bench.vm}", storage="local", compress="zstd", remove=0))
    rules = {"prune-backups": "keep-last=1"}
    marks = local.prunebackups.get(**rules)
    gone = {row["volid"] for row in marks if row["mark"] == "remove"}
    assert {row["vmid"] for row in marks if row["mark"] == "keep"} == {one, two, bench.vm}
    assert gone <= {row["volid"] for row in bench.backups()}, "a dry run removes nothing"
    mine = {row["volid"] for row in local.prunebackups.get(vmid=bench.vm, type="qemu", **rules)}
    assert mine == {row["volid"] for row in bench.backups(bench.vm)}
    done(local.prunebackups.delete(**rules))
    left = bench.backups()
    assert {row["volid"] for row in left} == {row["volid"] for row in marks} - gone
    volid = next(row["volid"] for row in left if row["vmid"] == one and not row.get("protected"))

    def place(path: str) -> dict[str, str]:
        return {"volume": volid, "filepath": base64.b64encode(path.encode()).decode()}

    listed = {row["text"]: row for row in local("file-restore").list.get(**place("/"))}
    assert (listed["bin"]["type"], listed["bin"]["leaf"]) == ("d", 0)
    assert base64.b64decode(listed["bin"]["filepath"]) == b"/bin"
    answer = bench.host.http.get(
        f"/nodes/{bench.host.node}/storage/local/file-restore/download", params=place("/bin/busybox")
    )
    assert (answer.status_code, answer.content[:4]) == (200, b"\x7fELF")
    with pytest.raises(ResourceException, match="does not exist"):
        local("file-restore").list.get(**place("/nowhere"))


def test_proxmoxer_keeps_jobs(bench: Bench) -> None:
    client, (one, two) = Proxmoxer(bench), bench.vmids
    jobs = client.pve.cluster.backup
    away = client.pve.cluster("backup-info")("not-backed-up")
    assert {row["vmid"] for row in away.get()} >= {one, two, bench.vm}
    jobs.post(id="nightly", schedule="sat *-1..7 15:00", vmid=f"{one},{bench.vm}", storage="local", compress="zstd",
              mode="stop", enabled=1, comment="a b", **{"prune-backups": "keep-daily=7,keep-weekly=4",
              "notes-template": "{{guestname}}", "exclude-path": ["/srv", "*.tmp"], "repeat-missed": 1})  # fmt: skip
    with pytest.raises(ResourceException, match="already exists"):
        jobs.post(id="nightly", schedule="daily", all=1, storage="local")
    with pytest.raises(ResourceException) as refused:
        jobs.post(id="wrong", schedule="mon..foo", all=1, storage="local")
    assert list(refused.value.errors or {}) == ["schedule"]
    shown = jobs("nightly").get()
    assert (shown["vmid"], shown["mode"], shown["comment"]) == (f"{one},{bench.vm}", "stop", "a b")
    assert {row["vmid"] for row in away.get()} & {one, two, bench.vm} == {two}
    children = {row["id"]: row for row in jobs("nightly").included_volumes.get()["children"]}
    assert {child["id"]: child["included"] for child in children[bench.vm]["children"]} == {"scsi0": 1}
    jobs("nightly").put(all=1, exclude=str(two), delete="comment")
    assert ("vmid" in jobs("nightly").get(), "comment" in jobs("nightly").get()) == (False, False)
    jobs("nightly").put(enabled=0)
    assert {row["vmid"] for row in away.get()} >= {one, two, bench.vm}
    jobs("nightly").delete()
    assert [row["id"] for row in jobs.get()] == []


def test_answers_have_the_references_shapes(bench: Bench, described: dict[tuple[str, str], dict[str, Any]]) -> None:
    host = bench.host
    host.post("/cluster/backup", id="shapes", schedule="daily", all=1, storage="local", fleecing="enabled=1",
              **{"prune-backups": "keep-last=2", "exclude-path": ["/srv"]})  # fmt: skip
    archive = next(row["volid"] for row in bench.backups() if row["vmid"] == bench.vmids[0])
    places = {"node": host.node, "storage": "local", "id": "shapes", "volume": archive}
    files = {"volume": archive, "filepath": base64.b64encode(b"/").decode()}
    store = "/nodes/{node}/storage/{storage}"
    wrong = []
    for path, values in (
        ("/cluster/backup", {}), ("/cluster/backup/{id}", {}), ("/cluster/backup/{id}/included_volumes", {}),
        ("/cluster/backup-info", {}), ("/cluster/backup-info/not-backed-up", {}),
        ("/cluster/jobs", {}), ("/cluster/jobs/schedule-analyze", {"schedule": "*:0/15"}),
        ("/nodes/{node}/vzdump/defaults", {"storage": "local"}),
        ("/nodes/{node}/vzdump/extractconfig", {"volume": archive}),
        (f"{store}/prunebackups", {"prune-backups": "keep-last=1"}), (f"{store}/file-restore/list", files),
        (f"{store}/content", {"content": "backup"}), (f"{store}/content/{{volume}}", {}),
    ):  # fmt: skip
        answer = host.get(path.format(**places), **values)
        wrong += [f"{path}{one}" for one in differences(answer, described["GET", path])]
    host.delete("/cluster/backup/shapes")
    assert wrong == []


def test_proxctl_saves_restores_and_schedules(bench: Bench) -> None:
    """It restores VMs alone: whatever the archive is, it asks for a VM."""
    host, vm, copy = bench.host, bench.vm, bench.host.new_vmid()

    def run(*arguments: object) -> Any:
        done = proxctl(host, bench.login, "backup", *arguments)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if done.stdout.strip() else None

    before = {row["volid"] for row in bench.backups()}
    host.wait(run("create", vm, "--storage", "local")["upid"])
    (volid,) = {row["volid"] for row in run("list")["items"]} - before
    host.wait(run("restore", copy, volid)["upid"])
    assert host.get(f"/nodes/{host.node}/qemu/{copy}/config")["scsi0"].startswith(f"local:{copy}/")
    host.wait(host.delete(f"/nodes/{host.node}/qemu/{copy}"))
    container = next(row["volid"] for row in bench.backups() if row["subtype"] == "lxc")
    refused = proxctl(host, bench.login, "backup", "restore", copy, container)
    assert (refused.returncode, "is a container's backup" in refused.stderr) == (5, True), refused.stderr
    run("schedule", "create", "--vmid", vm, "--storage", "local", "--schedule", "02:30")
    (job,) = run("schedule", "list")
    assert (job["schedule"], job["vmid"], job["storage"]) == ("02:30", str(vm), "local")
    run("schedule", "delete", job["id"])
    assert run("schedule", "list") == []
