"""Snapshots, copies, disks and their sizes: what the commands ask the API for, print, and refuse."""

import pytest

from bastide.cli.snapshots import tree

CT, VM = "/nodes/pve1/lxc/100", "/nodes/pve1/qemu/101"
SNAPSHOTS = [
    {"name": "current", "parent": "b", "running": 1},
    {"name": "a", "snaptime": 100, "description": "first\nline"},
    {"name": "b", "snaptime": 200, "parent": "a", "vmstate": 1},
    {"name": "c", "snaptime": 300, "parent": "a"},
]


@pytest.fixture
def guests(daemon):
    daemon.guest(100, "web")
    daemon.guest(101, "db", kind="qemu")
    daemon.on("GET", f"{CT}/config", {"rootfs": "local:100/vm-100-disk-0.raw,size=8G", "mp0": "local:100/b,mp=/x"})
    daemon.on("GET", f"{VM}/config", {"scsi0": "local:101/a.raw,size=8G", "ide2": "none,media=cdrom"})
    daemon.on("GET", "/cluster/nextid", "102")
    for path in (CT, VM):
        daemon.on("GET", f"{path}/snapshot", SNAPSHOTS)
    return daemon


# snapshots


def test_the_tree_of_snapshots(run, guests):
    lines = run("snapshot", "db").out.splitlines()
    assert [line.split("  ")[0].rstrip() for line in lines[2:]] == ["a", "├─ b", "│", "└─ c"]
    assert "│  └─ current" in lines[4]
    assert "running" in lines[4]
    assert "first" in lines[2]
    assert "line" not in lines[2].replace("first", "")


def test_a_tree_is_drawn_of_whatever_parents_say():
    circle = [{"name": "a", "parent": "b"}, {"name": "b", "parent": "a"}, {"name": "c", "parent": "gone"}]
    assert sorted(row["name"] for _, row in tree(circle)) == ["a", "b", "c"]


def test_taking_a_snapshot(run, guests):
    guests.task("POST", f"{VM}/snapshot")
    assert run("snapshot", "db", "before", "--memory", "-d", "why").code == 0
    assert guests.posted("POST", f"{VM}/snapshot") == {"snapname": "before", "description": "why", "vmstate": "1"}
    assert "no memory to keep" in run("snapshot", "db", "before", "--memory").err
    ended = run("snapshot", "web", "before", "--memory")
    assert (ended.code, "leave --memory out" in ended.err) == (7, True)


def test_a_snapshot_that_is_not_there(run, guests):
    for words in (["snapshot", "web", "z", "--config"], ["snapshot", "web", "z", "--delete"], ["rollback", "web", "z"]):
        ended = run(*words)
        assert (ended.code, "it has a, b, c" in ended.err) == (3, True)


def test_a_description_is_not_removed_by_mistake(run, guests):
    guests.on("PUT", f"{CT}/snapshot/a/config", None)
    assert run("snapshot", "web", "a", "--edit").code == 2
    assert run("snapshot", "web", "a", "--edit", "-d", "").code == 0
    assert guests.posted("PUT", f"{CT}/snapshot/a/config") == {"description": ""}


def test_no_snapshots_yet(run, guests):
    guests.on("GET", f"{CT}/snapshot", [{"name": "current"}])
    ended = run("snapshot", "web")
    assert (ended.code, ended.out) == (0, "")
    assert "bastide snapshot web NAME" in ended.err


@pytest.mark.parametrize("options", [["--delete", "--config"], ["--memory", "--delete"], ["--edit", "--config"]])
def test_one_thing_at_a_time(run, guests, options):
    assert run("snapshot", "db", "a", *options).code == 2
    assert run("snapshot", "db", "--delete").code == 2


def test_deleting_and_rolling_back(run, guests):
    guests.task("DELETE", f"{CT}/snapshot/a")
    guests.task("POST", f"{CT}/snapshot/a/rollback")
    assert run("snapshot", "web", "a", "--delete", "--force").code == 0
    assert guests.posted("DELETE", f"{CT}/snapshot/a") == {"force": "1"}
    assert run("rollback", "web", "a", "--start").code == 0
    assert guests.posted("POST", f"{CT}/snapshot/a/rollback") == {"start": "1"}


# copies


def test_clones_are_what_the_kind_calls_them(run, guests):
    guests.task("POST", f"{CT}/clone")
    guests.task("POST", f"{VM}/clone")
    guests.on("GET", "/nodes/pve1/qemu/102/config", {"scsi0": "local:1"})
    ended = run("clone", "web", "copy", "--linked")
    assert (ended.code, "bastide template web" in ended.err) == (6, True)
    guests.on("GET", f"{CT}/config", {"template": 1})
    assert run("clone", "web", "copy", "--linked").out == "copy (102)\n"
    assert guests.posted("POST", f"{CT}/clone") == {"newid": "102", "hostname": "copy", "full": "0"}
    ended = run("clone", "db", "copy", "--full", "--storage", "fast", "--format", "raw", "--snapshot", "b")
    assert guests.posted("POST", f"{VM}/clone") == {
        "newid": "102", "name": "copy", "full": "1", "storage": "fast", "format": "raw", "snapname": "b",
    }  # fmt: skip
    assert "no cloud-init" in ended.err


def test_a_clone_that_is_started(run, guests):
    guests.task("POST", f"{CT}/clone")
    guests.task("POST", "/nodes/pve1/lxc/300/status/start")
    assert run("clone", "web", "copy", "--vmid", "300", "--start").code == 0
    assert guests.made("POST", "/nodes/pve1/lxc/300/status/start")


def test_wrong_clones(run, guests):
    assert run("clone", "web", "copy", "--full", "--linked").code == 2
    assert run("clone", "web", "copy", "--format", "raw").code == 2
    ended = run("clone", "web", "copy", "--snapshot", "z")
    assert (ended.code, "it has a, b, c" in ended.err) == (3, True)


def test_a_linked_clone_is_where_its_base_is(run, guests):
    guests.on("GET", f"{CT}/config", {"template": 1})
    ended = run("clone", "web", "copy", "--storage", "fast")
    assert (ended.code, "add --full" in ended.err) == (2, True)
    assert not guests.made("POST", f"{CT}/clone")


@pytest.mark.parametrize(
    ("agent", "status", "told"),
    [
        ("0", "running", True),
        ("enabled=1", "running", False),
        ("1,type=isa", "running", False),
        ("0", "stopped", False),
    ],
)
def test_a_clone_of_what_runs_without_an_agent(run, guests, agent, status, told):
    guests.guest(101, "db", status, kind="qemu")
    guests.task("POST", f"{VM}/clone")
    guests.on("GET", "/nodes/pve1/qemu/102/config", {"ide2": "local:102/vm-102-cloudinit.raw", "agent": agent})
    assert ("power cut" in run("clone", "db", "copy").err) == told


def test_templates(run, guests):
    guests.task("POST", f"{VM}/template")
    ended = run("template", "db", "--disk", "scsi0")
    assert guests.posted("POST", f"{VM}/template") == {"disk": "scsi0"}
    assert "bastide clone db NAME" in ended.err
    assert run("template", "web", "--disk", "rootfs").code == 2


# disks of guests


@pytest.mark.parametrize(
    ("words", "size"), [(["4G", "--yes"], "4G"), (["rootfs", "-3G", "--yes"], "5G"), (["rootfs", "9G"], "9G")]
)
def test_a_container_grows_and_shrinks(run, guests, words, size):
    guests.task("PUT", f"{CT}/resize")
    assert run("resize", "web", *words).code == 0
    assert guests.posted("PUT", f"{CT}/resize") == {"disk": "rootfs", "size": size}


def test_shrinking_is_asked_for(run, guests):
    ended = run("resize", "web", "4G")
    assert (ended.code, "--yes" in ended.err) == (2, True)
    ended = run("resize", "db", "4G", "--yes")
    assert (ended.code, "can only grow" in ended.err) == (7, True)
    assert run("resize", "web", "-9G", "--yes").code == 2
    assert run("resize", "web", "--yess", "9G").code == 2
    assert run("resize", "web", "mp0", "-1G").code == 2
    ended = run("resize", "web", "mp7", "9G")
    assert (ended.code, "it has mp0, rootfs" in ended.err) == (3, True)


def test_moves(run, guests):
    guests.task("POST", f"{CT}/move_volume")
    assert run("move", "web", "rootfs", "fast", "--delete").code == 0
    assert guests.posted("POST", f"{CT}/move_volume") == {"volume": "rootfs", "storage": "fast", "delete": "1"}
    guests.task("POST", f"{VM}/move_disk")
    guests.guest(103, "db2", kind="qemu")
    assert run("move", "db", "scsi0", "--to", "db2", "--as", "scsi1").code == 0
    assert guests.posted("POST", f"{VM}/move_disk") == {"disk": "scsi0", "target-vmid": "103", "target-disk": "scsi1"}
    assert run("move", "db", "scsi0").code == 2
    assert run("move", "db", "scsi9", "fast").code == 3


def test_a_move_tells_where_the_old_volume_is(run, guests):
    def moved(_):
        guests.on("GET", f"{CT}/config", {"rootfs": "fast:1", "mp0": "x", "unused0": "local:100/vm-100-disk-0.raw"})
        return

    guests.on("POST", f"{CT}/move_volume", moved)
    assert "bastide set web --delete unused0" in run("move", "web", "rootfs", "fast").err


def test_a_volume_stays_with_its_kind(run, guests):
    ended = run("move", "web", "mp0", "--to", "db")
    assert (ended.code, "different kinds" in ended.err) == (2, True)
    assert run("move", "web", "mp0", "fast", "--as", "mp1").code == 2
    assert not guests.made("POST", f"{CT}/move_volume")


# disks of the machine

DISKS = "/nodes/pve1/disks"
ROWS = [
    {
        "devpath": "/dev/sda",
        "type": "ssd",
        "size": 2**40,
        "used": "LVM",
        "mounted": 1,
        "model": "M",
        "health": "OK",
    },
    {"devpath": "/dev/sdb", "type": "hdd", "size": 2**40, "serial": "unknown", "health": "UNKNOWN"},
    {"devpath": "/dev/sdb1", "parent": "/dev/sdb", "type": "partition", "size": 5, "mounted": 0},
]


def test_list_of_disks(run, daemon):
    daemon.on("GET", f"{DISKS}/list", ROWS)
    out = run("disks", "ls", "--partitions").out.splitlines()
    assert out[2].split() == ["/dev/sda", "ssd", "1", "TiB", "LVM", "(mounted)", "OK", "M"]
    assert out[3].split() == ["/dev/sdb", "hdd", "1", "TiB", "-"]
    assert out[4].startswith("  /dev/sdb1")


def test_wiping_is_asked_for(run, daemon):
    daemon.on("GET", f"{DISKS}/list", ROWS)
    daemon.task("PUT", f"{DISKS}/wipedisk")
    ended = run("disks", "wipe", "sdb")
    assert (ended.code, "--yes" in ended.err) == (2, True)
    assert not daemon.made("PUT", f"{DISKS}/wipedisk")
    assert run("disks", "wipe", "sdb", "--yes").code == 0
    assert daemon.posted("PUT", f"{DISKS}/wipedisk") == {"disk": "/dev/sdb"}
    ended = run("disks", "wipe", "sdz")
    assert (ended.code, "bastide disks ls" in ended.err) == (3, True)


def test_what_is_in_use_is_in_the_way(run, daemon, refusal):
    daemon.on("PUT", f"{DISKS}/wipedisk", refusal(500, "/dev/sdb is in use: guest 100 has /dev/sdb"))
    assert run("disks", "wipe", "sdb", "--yes").code == 6


@pytest.mark.parametrize(
    ("words", "path", "params"),
    [
        (["dir", "d", "sdb", "--filesystem", "xfs"], "directory", {"device": "/dev/sdb", "filesystem": "xfs"}),
        (["lvm", "d", "/dev/sdb", "--no-storage"], "lvm", {"device": "/dev/sdb", "add_storage": "0"}),
        (["zfs", "d", "sdb"], "zfs", {"devices": "/dev/sdb", "raidlevel": "single"}),
        (
            ["zfs", "d", "sdb", "sdc", "--raid", "mirror"],
            "zfs",
            {"devices": "/dev/sdb,/dev/sdc", "raidlevel": "mirror"},
        ),
    ],
)
def test_storages_of_disks(run, daemon, words, path, params):
    daemon.task("POST", f"{DISKS}/{path}")
    assert run("disks", "make", *words).code == 0
    assert daemon.posted("POST", f"{DISKS}/{path}") == {"name": "d", "add_storage": "1", **params}


@pytest.mark.parametrize(
    "words", [["zfs", "d", "sdb", "sdc"], ["lvm", "d", "sdb", "sdc"], ["lvm", "d", "sdb", "--raid", "mirror"],
              ["zfs", "d", "sdb", "--filesystem", "xfs"], ["nfs", "d", "sdb"]],
)  # fmt: skip
def test_wrong_storages_of_disks(run, daemon, words):
    assert run("disks", "make", *words).code == 2


def test_storages_are_taken_apart(run, daemon, refusal):
    daemon.task("DELETE", f"{DISKS}/lvmthin/data")
    assert run("disks", "rm", "lvmthin", "fast/data").code == 2
    assert run("disks", "rm", "lvmthin", "fast/data", "--yes").code == 0
    assert daemon.posted("DELETE", f"{DISKS}/lvmthin/data") == {
        "volume-group": "fast", "cleanup-config": "1", "cleanup-disks": "0",
    }  # fmt: skip
    daemon.on("GET", f"{DISKS}/directory", [])
    for kind in ("lvm", "lvmthin", "zfs"):
        daemon.on("GET", f"{DISKS}/{kind}", refusal(500, f"{kind} is not installed on this host; see `bastide doctor`"))
    ended = run("disks", "storages")
    assert (ended.code, "bastide disks make dir" in ended.err) == (0, True)


# storages


@pytest.fixture
def storages(daemon):
    daemon.on(
        "GET", "/storage",
        [{"storage": "nas", "type": "nfs", "server": "nas.lan", "export": "/vms", "content": "images"},
         {"storage": "thin", "type": "lvmthin", "vgname": "fast", "thinpool": "data", "content": "rootdir"}],
    )  # fmt: skip
    daemon.on(
        "GET", "/nodes/pve1/storage",
        [{"storage": "nas", "type": "nfs", "enabled": 1, "active": 0},
         {"storage": "thin", "type": "lvmthin", "enabled": 1, "active": 1, "used": 2**29, "avail": 2**29,
          "total": 2**30, "allocated": 2**31, "promised": 2.0}],
    )  # fmt: skip
    return daemon


def test_list_of_storages(run, storages):
    nas, thin = [line.split() for line in run("storage", "ls").out.splitlines()[2:]]
    assert nas == ["nas", "nfs", "fail", "nas.lan:/vms", "images"]
    assert thin == ["thin", "lvmthin", "ok", "1", "GiB", "50%", "fast/data", "rootdir"]
    nas, thin = [line.split() for line in run("storage", "status").out.splitlines()[2:]]
    assert nas == ["nas", "fail"]
    assert thin[-4:] == ["50%", "2", "GiB", "200%"]


def test_all_about_a_storage(run, storages):
    storages.on("GET", "/storage/thin", {"storage": "thin", "type": "lvmthin", "content": "rootdir", "digest": "1"})
    storages.on("GET", "/bastide/storage", [{"storage": "thin", "copy-on-write": "thin snapshots"}])
    outlook = {"storage": "thin", "outlook": {"sentence": "in about 9 days"}}
    storages.on("GET", "/architect/capacity", {"storages": [outlook]})
    out = run("storage", "show", "thin").out
    for text in ("allocated     2 GiB, 200% of the size", "full          in about 9 days", "share  thin snapshots"):
        assert text in out
    assert "digest" not in out


def test_all_about_one_of_which_the_architect_tells_nothing(run, storages):
    storages.on("GET", "/storage/nas", {"storage": "nas", "type": "nfs", "content": "iso"})
    storages.on("GET", "/bastide/storage", [{"storage": "nas"}])
    out = run("storage", "show", "nas").out
    assert "status   fail" in out
    assert "share" not in out  # no guest can be on it


@pytest.mark.parametrize(
    ("options", "seen", "code", "told"),
    [
        ({"disable": 1}, {"enabled": 0, "active": 0}, 6, "--delete disable"),
        ({"nodes": "pve2"}, {"enabled": 0, "active": 0}, 6, "for other nodes: pve2"),
        ({}, {"enabled": 1, "active": 0}, 1, "cannot be reached"),
        ({}, {"enabled": 1, "active": 1}, 0, "no volumes"),
    ],
)
def test_why_a_storage_shows_no_volumes(run, daemon, options, seen, code, told):
    daemon.on("GET", "/storage/s", {"storage": "s", "type": "dir", **options})
    daemon.on("GET", "/nodes/pve1/storage/s/content", [])
    daemon.on("GET", "/nodes/pve1/storage", [{"storage": "s", **seen}])
    ended = run("storage", "content", "s")
    assert (ended.code, told in ended.err, ended.out) == (code, True, "")


def test_options_that_a_type_does_not_have(run, daemon, refusal):
    unknown = "property is not defined in schema"
    daemon.on("PUT", "/storage/s", refusal(400, "", {"path": unknown, "bogus": unknown, "content": "wrong"}))
    daemon.on("GET", "/storage/s", {"storage": "s", "type": "dir"})
    told = run("storage", "set", "s", "path=/x", "bogus=1").err
    assert "path: it never changes" in told
    assert "bogus: dir has no such option" in told
    assert "content: wrong" in told


@pytest.mark.parametrize(
    "words",
    [["add", "x", "zfs"], ["set", "x", "digest=1"], ["set", "x", "delete=nodes"], ["add", "x", "dir", "path"],
     ["rm-volume", "x"], ["rm-volume", ":x"]],
)  # fmt: skip
def test_wrong_words_reach_no_daemon(run, daemon, words):
    assert run("storage", *words).code == 2
    assert not daemon.calls


def test_a_file_for_a_secret_that_is_not_there(run, daemon):
    ended = run("storage", "add", "nas", "cifs", "server=a", "share=b", "--password-file", "/nonexistent")
    assert (ended.code, "'/nonexistent' does not exist" in ended.err) == (3, True)


def test_secrets_are_never_on_the_command_line(run, daemon, tmp_path):
    daemon.on("POST", "/storage", {"storage": "nas"})
    daemon.on("GET", "/nodes/pve1/storage/nas/status", {"enabled": 1, "active": 0})
    words = ["storage", "add", "nas", "cifs", "server=nas.lan", "share=vms", "username=ada"]
    ended = run(*words, "password=geheim")
    assert (ended.code, "--password-file" in ended.err) == (2, True)
    assert not daemon.made("POST", "/storage")
    (tmp_path / "secret").write_text("geheim\n")
    ended = run(*words, "--password-file", str(tmp_path / "secret"))
    assert daemon.posted("POST", "/storage")["password"] == "geheim"
    assert "does not answer yet" in ended.err
    run(*words, "--password-file", "-", text="other\n")
    assert daemon.posted("POST", "/storage")["password"] == "other"


def test_changing_a_storage(run, daemon):
    daemon.on("PUT", "/storage/nas", {"storage": "nas"})
    assert run("storage", "set", "nas", "content=iso", "--delete", "nodes", "--delete", "disable").code == 0
    assert daemon.posted("PUT", "/storage/nas") == {"content": "iso", "delete": "nodes,disable"}
    assert run("storage", "set", "nas").code == 2


def test_types_say_what_they_need(run, daemon):
    out = run("storage", "types").out
    assert "nfs" in out
    assert "export server" in out


def test_scanning(run, daemon):
    daemon.on("GET", "/nodes/pve1/scan/nfs", [{"path": "/vms", "options": "*"}])
    assert run("storage", "scan", "nfs", "nas.lan").out.split()[-2:] == ["/vms", "*"]
    assert daemon.posted("GET", "/nodes/pve1/scan/nfs") == {"server": "nas.lan"}
    assert run("storage", "scan", "nfs").code == 2
    assert run("storage", "scan", "lvm", "x").code == 2
    assert run("storage", "scan", "dir").code == 2
