"""Every command has `--json`, and what it prints then is JSON and nothing else."""

import pytest

from bastide.cli.hosting import DownReport, Finding, UpReport

T = "UPID:pve1:00000001:00000002:00000001:vztask:100:root@pam:"
RESOURCES = [
    {"type": "lxc", "vmid": 100, "name": "web", "status": "running", "maxmem": 1, "mem": 1},
    {"type": "storage", "storage": "local", "plugintype": "dir", "disk": 1, "maxdisk": 2},
]


class Host:
    def up(self, _layout, _request):
        return UpReport(started=True, url="https://192.0.2.5:8006", node="pve1", version="0.1", fingerprint="AB:CD")

    def down(self, _layout, request):
        return DownReport(True, [f"timeout {request.timeout}"])

    def doctor(self, _layout):
        return [Finding("kvm", "fail", "no", "buy one"), Finding("tools", "ok", "all")]


@pytest.fixture
def host(daemon):
    daemon.guest(100, "web")
    daemon.guest(101, "db", kind="qemu")
    daemon.on("GET", "/cluster/resources", lambda p: RESOURCES[:1] if p.get("type") == "vm" else RESOURCES)
    daemon.on("GET", "/nodes/pve1/status", {"cpu": 0.5, "cpuinfo": {"cpus": 2}, "memory": {"used": 1, "total": 2}})
    daemon.on("GET", "/nodes/pve1/tasks", [{"upid": T, "starttime": 1, "endtime": 2, "status": "OK", "type": "x"}])
    daemon.on("GET", "/nodes/pve1/lxc/100/config", {"memory": 1, "digest": "x"})
    daemon.on("GET", "/nodes/pve1/lxc/100/pending", [{"key": "memory", "value": 1, "pending": 2}])
    daemon.on("PUT", "/nodes/pve1/lxc/100/config", None)
    daemon.on("GET", "/bastide/images", [{"volid": "local:vztmpl/a", "name": "a", "alias": "debian-12", "size": 5}])
    daemon.on("GET", "/storage", [{"storage": "local", "type": "dir", "content": "iso", "path": "/x"}])
    daemon.on("GET", "/nodes/pve1/storage", [{"storage": "local", "type": "dir", "used": 1, "total": 4, "avail": 3}])
    daemon.on("GET", "/nodes/pve1/storage/local/content", [{"volid": "local:iso/a", "size": 5, "content": "iso"}])
    daemon.on("POST", "/storage", {"storage": "x"})
    daemon.on("PUT", "/storage/local", {"storage": "local"})
    daemon.on("GET", "/storage/local", {"storage": "local", "type": "dir", "content": "iso"})
    daemon.on("GET", "/bastide/storage", [{"storage": "local"}])
    daemon.on("GET", "/nodes/pve1/storage/x/status", {"enabled": 1, "active": 1})
    daemon.on("GET", "/nodes/pve1/scan/nfs", [{"path": "/x", "options": "*"}])
    daemon.on("GET", "/storage/x", {"storage": "x", "type": "dir"})
    daemon.on("DELETE", "/storage/x", None)
    daemon.on("GET", "/access/users", [{"userid": "root@pam", "enable": 1}])
    daemon.on("GET", "/access/users/root@pam/token", [{"tokenid": "ci", "privsep": 0}])
    daemon.on("GET", "/access/acl", [])
    daemon.on("GET", "/access/roles", [])
    daemon.on("GET", "/access/groups", [])
    daemon.on("GET", "/access/users/a@pve", {"groups": ["g"]})
    daemon.on("GET", "/access/permissions", {"/": {"VM.Audit": 0}})
    for method, path in (
        ("PUT", "/access/acl"), ("POST", "/access/roles"), ("PUT", "/access/roles/R"), ("DELETE", "/access/roles/R"),
        ("POST", "/access/groups"), ("PUT", "/access/groups/g"), ("DELETE", "/access/groups/g"),
        ("PUT", "/access/users/a@pve"), ("DELETE", "/access/users/a@pve"), ("PUT", "/access/password"),
        ("DELETE", "/access/users/a@pve/token/t"), ("POST", "/access/users"), ("DELETE", f"/nodes/pve1/tasks/{T}"),
    ):  # fmt: skip
        daemon.on(method, path, None)
    for method, path in (
        ("POST", "/nodes/pve1/lxc/100/status/start"), ("DELETE", "/nodes/pve1/lxc/100"),
        ("POST", "/bastide/images/build"), ("POST", "/bastide/images/pull"),
        ("DELETE", "/nodes/pve1/storage/local/content/local:vztmpl/a"),
        ("DELETE", "/nodes/pve1/storage/local/content/local:iso/a"),
    ):  # fmt: skip
        daemon.task(method, path, log=("one",))
    vm = "/nodes/pve1/qemu/101"
    daemon.on("GET", f"{vm}/config", {"scsi0": "local:1,size=8G"})
    daemon.on("GET", f"{vm}/cloudinit", [{"key": "ciuser", "value": "a"}])
    daemon.on("GET", "/bastide/guests/101/cloudinit", {"user": "#cloud-config"})
    daemon.on("PUT", f"{vm}/sendkey", None)
    daemon.on("POST", f"{vm}/monitor", "VM status: running")
    for method, verb in (("POST", "status/reset"), ("POST", "status/suspend"), ("POST", "status/resume"),
                         ("PUT", "resize")):  # fmt: skip
        daemon.task(method, f"{vm}/{verb}")
    daemon.ends[T] = ("OK", ["one"])
    copies(daemon)
    return daemon


def copies(daemon):
    rows = [{"name": "one", "snaptime": 5, "description": "x"}, {"name": "current", "parent": "one"}]
    daemon.on("GET", "/cluster/nextid", "102")
    daemon.on("GET", "/nodes/pve1/qemu/102/config", {"ide2": "local:102/vm-102-cloudinit.raw"})
    daemon.on("GET", "/nodes/pve1/lxc/100/config", {"memory": 1, "digest": "x", "rootfs": "local:1,size=8G"})
    for guest in ("lxc/100", "qemu/101"):
        path = f"/nodes/pve1/{guest}"
        daemon.on("GET", f"{path}/snapshot", rows)
        daemon.on("GET", f"{path}/snapshot/one/config", {"memory": 1})
        daemon.on("PUT", f"{path}/snapshot/one/config", None)
        for method, verb in (("POST", "snapshot"), ("DELETE", "snapshot/one"), ("POST", "snapshot/one/rollback"),
                             ("POST", "clone"), ("POST", "template"), ("POST", "move_volume")):  # fmt: skip
            daemon.task(method, f"{path}/{verb}")
    disks = "/nodes/pve1/disks"
    daemon.on("GET", f"{disks}/list", [{"devpath": "/dev/sda", "size": 5, "type": "ssd"}])
    daemon.on("GET", f"{disks}/smart", {"health": "PASSED", "type": "text", "text": "fine"})
    daemon.on("GET", f"{disks}/directory", [{"path": "/mnt/pve/shelf", "device": "/dev/x"}])
    daemon.on("GET", f"{disks}/lvm", {"leaf": 0, "children": []})
    daemon.on("GET", f"{disks}/lvmthin", [])
    daemon.on("GET", f"{disks}/zfs", [])
    for method, path in (("POST", "initgpt"), ("PUT", "wipedisk"), ("POST", "directory"),
                         ("DELETE", "directory/shelf")):  # fmt: skip
        daemon.task(method, f"{disks}/{path}")


COMMANDS = [
    "up", "down", "status", "doctor", "ls", "start web", "rm web", "config web", "config web --pending",
    "set web memory=2", "image ls", "image build a", "image pull a", "image rm a", "storage ls", "storage status",
    "storage content local", "storage add x dir path=/x", "storage rm x", "storage rm-volume local:iso/a", "task ls",
    f"task log {T}", f"task log -f {T}", f"task status {T}", f"task stop {T}", "user ls", "user set a@pve --disable",
    "user create a@pam", "user rm a@pve", "user passwd a@pve --password-stdin", "token ls", "token rm a@pve t",
    "api get /storage", "reset db", "suspend db", "resume db", "resize db 9G", "cloudinit db", "sendkey db ret",
    "monitor db info status", "storage set local content=iso", "storage types", "storage scan nfs nas.lan",
    "acl list", "acl set / a@pve --role R", "acl remove / a@pve --role R", "role ls", "role create R VM.Audit",
    "role set R", "role rm R", "group ls", "group create g", "group set g", "group rm g", "group add g a@pve",
    "group drop g a@pve", "user permissions", "user permissions a@pve --path /vms",
    "storage show local", "suspend db --disk", "snapshot web", "snapshot web one",
    "snapshot web one --delete", "snapshot web one --edit -d x",
    "snapshot web one --config", "rollback web one --start", "clone web copy --vmid 102",
    "clone db copy --snapshot one", "template web", "move web rootfs local", "disks ls", "disks smart sda",
    "disks init sda", "disks wipe sda --yes", "disks make dir shelf sda", "disks storages",
    "disks rm dir shelf --yes --wipe",
]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_json_is_all_that_is_printed(run, host, command):
    ended = run(*command.split(), "--json", host=Host(), text="secret\n")
    assert ended.code == (1 if command == "doctor" else 0), ended.err
    assert ended.json is not None
    assert ended.err == "" or command.startswith("set")


@pytest.mark.parametrize("command", COMMANDS)
def test_without_it_the_same_is_told_to_people(run, host, command):
    ended = run(*command.split(), host=Host(), text="secret\n")
    assert ended.code == (1 if command == "doctor" else 0), ended.err
    assert "Traceback" not in ended.out + ended.err
    assert all(line == line.rstrip() for line in ended.out.splitlines())


def test_up_tells_the_address_and_how_to_log_in(run):
    out = run("up", host=Host()).out
    assert "https://192.0.2.5:8006" in out
    assert "root@pam" in out
    assert "AB:CD" in out


def test_doctor_tells_what_to_do(run):
    ended = run("doctor", host=Host())
    assert ended.code == 1
    assert "→ buy one" in ended.out


def test_purging_asks_first(run):
    assert run("down", "--purge", host=Host()).code == 2
    assert run("down", "--purge", "--yes", "--timeout", "5", host=Host()).out == "timeout 5\n"
