"""Commands that take either kind of guest, and those that only a VM has."""

import pytest

VM = "/nodes/pve1/qemu/101"
CT = "/nodes/pve1/lxc/100"
PNG = b"\x89PNG\r\n\x1a\n\0\xff"


@pytest.fixture
def guests(daemon):
    daemon.guest(100, "web", "running")
    daemon.guest(101, "db", "running", kind="qemu")
    daemon.on("GET", f"{VM}/status/current", {"status": "running"})
    return daemon


def test_memory_on_disk(run, daemon):
    daemon.guest(100, "web")
    daemon.guest(101, "db", "running", kind="qemu")
    daemon.task("POST", "/nodes/pve1/qemu/101/status/suspend")
    assert run("suspend", "db", "--disk", "--storage", "fast").code == 0
    assert daemon.posted("POST", "/nodes/pve1/qemu/101/status/suspend") == {"todisk": "1", "statestorage": "fast"}
    ended = run("suspend", "web", "--disk")
    assert (ended.code, "leave --disk out" in ended.err) == (7, True)
    assert run("suspend", "db", "--storage", "fast").code == 2


@pytest.mark.parametrize(
    ("row", "shown"),
    [
        ({"status": "stopped", "lock": "suspended"}, "suspended"),
        ({"status": "stopped", "template": 1}, "template"),
        ({"status": "running", "qmpstatus": "postmigrate"}, "paused"),
        ({"status": "running", "qmpstatus": "io-error"}, "io-error"),
        ({"status": "stopped"}, "stopped"),
    ],
)
def test_what_a_guest_does(run, daemon, row, shown):
    daemon.on("GET", "/cluster/resources", [{"vmid": 101, "name": "db", "type": "qemu", **row}])
    daemon.on("GET", "/nodes/pve1/qemu", [{"vmid": 101, **row}])
    assert run("ls").out.splitlines()[2].split()[3] == shown


@pytest.mark.parametrize("verb", ["start", "stop", "shutdown", "reboot", "suspend", "resume"])
def test_power_finds_out_the_kind_by_itself(run, guests, verb):
    guests.task("POST", f"{VM}/status/{verb}")
    guests.task("POST", f"{CT}/status/{verb}")
    assert run(verb, "db", "web").code == 0
    assert guests.made("POST", f"{VM}/status/{verb}")
    assert guests.made("POST", f"{CT}/status/{verb}")


def test_a_start_without_kvm_is_told(run, guests):
    guests.task("POST", f"{VM}/status/start")
    guests.on("GET", f"{VM}/status/current", {"status": "running", "warning": "emulated without KVM, and slow: why"})
    assert run("start", "db").err == "warning: db (101) is emulated without KVM, and slow: why\n"


def test_reset_is_for_vms(run, guests):
    guests.task("POST", f"{VM}/status/reset")
    assert run("reset", "db").code == 0
    ended = run("reset", "web")
    assert (ended.code, "has no reset button" in ended.err) == (7, True)


def test_rm_force_stops_a_vm_first_as_its_method_cannot(run, guests):
    guests.task("POST", f"{VM}/status/stop")
    guests.task("DELETE", VM)
    assert run("rm", "db").code == 6
    assert run("rm", "db", "--force").code == 0
    assert guests.posted("DELETE", VM) == {"purge": "1"}
    methods = [(method, path) for method, path, _ in guests.calls if method != "GET"]
    assert methods == [("POST", f"{VM}/status/stop"), ("DELETE", VM)]


def test_ls_tells_the_kinds_apart(run, guests):
    rows = [{"vmid": n, "name": n, "type": kind, "status": "stopped"} for n, kind in ((1, "lxc"), (2, "qemu"))]
    guests.on("GET", "/cluster/resources", rows)
    assert [line.split()[2] for line in run("ls").out.splitlines()[2:]] == ["CT", "VM"]


def test_ls_tells_what_qemu_does_and_whether_without_kvm(run, guests):
    guests.on("GET", "/cluster/resources", [{"vmid": 101, "name": "db", "type": "qemu", "status": "running"}])
    row = {"vmid": 101, "name": "db", "status": "running", "qmpstatus": "io-error", "accelerator": "tcg"}
    guests.on("GET", "/nodes/pve1/qemu", [row])
    ended = run("ls")
    assert ended.err == "emulated without KVM, and slow: db\n"
    assert ended.out.split()[-1] == "io-error"
    assert run("ls", "--json").json[0]["qmpstatus"] == "io-error"
    guests.on("GET", "/nodes/pve1/qemu", [{**row, "accelerator": "kvm"}])
    assert run("ls").err == ""


def test_config_shows_keys_as_they_were_given(run, guests):
    guests.on("GET", f"{VM}/config", {"sshkeys": "ssh-ed25519%20AA%2B%20me%0A", "digest": "x"})
    assert run("config", "db").out == "sshkeys:  ssh-ed25519 AA+ me\n"


def test_set_changes_a_vm_as_a_task_and_tells_what_waits(run, guests):
    guests.task("POST", f"{VM}/config")
    guests.on("GET", f"{VM}/pending", [{"key": "cores", "value": 1, "pending": 2}])
    ended = run("set", "db", "cores=2", "scsi1=local:8")
    assert (ended.code, ended.err) == (0, "cores waits for the next start: 2\n")
    assert guests.posted("POST", f"{VM}/config") == {"cores": "2", "scsi1": "local:8"}


@pytest.mark.parametrize(
    ("config", "options", "disk"),
    [
        ({"scsi0": "local:101/a.raw", "ide2": "local:101/vm-101-cloudinit.raw,media=cdrom"}, [], "scsi0"),
        ({"scsi0": "a:1", "virtio1": "a:2", "boot": "order=net0;virtio1;scsi0"}, [], "virtio1"),
        ({"scsi0": "a:1", "scsi1": "a:2"}, ["--disk", "scsi1"], "scsi1"),
    ],
)
def test_resize_grows_the_disk_that_a_vm_boots_from(run, guests, config, options, disk):
    guests.on("GET", f"{VM}/config", config)
    guests.task("PUT", f"{VM}/resize")
    assert run("resize", "db", "20GiB", *options).code == 0
    assert guests.posted("PUT", f"{VM}/resize") == {"disk": disk, "size": "20G"}


def test_resize_does_not_guess(run, guests):
    guests.on("GET", f"{VM}/config", {"scsi0": "a:1", "scsi1": "a:2"})
    ended = run("resize", "db", "20G")
    assert (ended.code, "name one of scsi0, scsi1" in ended.err) == (2, True)


def test_resize_of_a_container_is_of_its_root(run, guests):
    guests.task("PUT", f"{CT}/resize")
    guests.on("GET", f"{CT}/config", {"rootfs": "local:100/a.raw,size=8G"})
    assert run("resize", "web", "+1G").code == 0
    assert guests.posted("PUT", f"{CT}/resize") == {"disk": "rootfs", "size": "+1G"}


def test_a_screenshot_is_a_file(run, guests, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    guests.on("GET", "/bastide/guests/101/screenshot", PNG)
    assert run("screenshot", "db").out == "db.png\n"
    assert (tmp_path / "db.png").read_bytes() == PNG
    assert run("screenshot", "db").code == 6
    assert run("screenshot", "db", "-f", "-o", "db.png", "--json").json == {"vmid": 101, "file": "db.png"}
    assert run("screenshot", "db", "-o", "/nonexistent/x.png").code == 1


def test_sendkey_presses_one_after_the_other(run, guests):
    guests.on("PUT", f"{VM}/sendkey", None)
    assert run("sendkey", "db", "ctrl-alt-delete", "ret").code == 0
    pressed = [params["key"] for method, path, params in guests.calls if (method, path) == ("PUT", f"{VM}/sendkey")]
    assert pressed == ["ctrl-alt-delete", "ret"]


def test_monitor_prints_what_qemu_says(run, guests):
    guests.on("POST", f"{VM}/monitor", lambda p: f"did {p['command']}\r\n\x1b[2J")
    ended = run("monitor", "db", "info", "status")
    assert ended.out.startswith("did info status")
    assert "\x1b" not in ended.out


@pytest.mark.parametrize("command", [["screenshot", "web"], ["sendkey", "web", "ret"], ["monitor", "web", "info"]])
def test_what_a_container_has_not_is_told(run, guests, command):
    ended = run(*command)
    assert ended.code == 7
    assert "bastide console web" in ended.err


class TestCloudInit:
    """`cloudinit`."""

    @pytest.fixture
    def cloud(self, guests):
        guests.on("GET", f"{VM}/cloudinit", [{"key": "ciuser", "value": "ada", "pending": "bob"}])
        guests.on("GET", f"{VM}/cloudinit/dump", lambda p: f"#{p['type']}\nx\n")
        guests.on("PUT", f"{VM}/cloudinit", None)
        for vmid in (100, 101):
            guests.on("GET", f"/bastide/guests/{vmid}/cloudinit", {"vendor": "#v\n"})
            guests.on("PUT", f"/bastide/guests/{vmid}/cloudinit", None)
        return guests

    def test_it_shows_options_and_texts(self, run, cloud):
        out = run("cloudinit", "db").out
        assert [line.split() for line in out.splitlines()[2:]] == [
            ["ciuser", "ada", "bob"],
            ["vendor", "data", "given", "in", "full,", "3", "characters"],
        ]
        assert run("cloudinit", "db", "--json").json["texts"] == {"vendor": "#v\n"}

    def test_it_sets_texts_and_writes_the_drive(self, run, cloud, tmp_path):
        (tmp_path / "u").write_text("#cloud-config\n")
        ended = run("cloudinit", "db", "--user-data", str(tmp_path / "u"), "--delete", "vendor", "--regenerate")
        assert (ended.code, ended.out) == (0, "")
        assert cloud.posted("PUT", "/bastide/guests/101/cloudinit") == {"user": "#cloud-config\n", "vendor": ""}
        assert cloud.made("PUT", f"{VM}/cloudinit")

    @pytest.mark.parametrize(("part", "text"), [("user", "#user\nx\n"), ("vendor", "#v\n")])
    def test_it_prints_a_text(self, run, cloud, part, text):
        assert run("cloudinit", "db", "--dump", part).out == text
        assert run("cloudinit", "db", "--dump", part, "--json").json == {"type": part, "text": text}

    def test_a_container_has_texts_and_no_drive(self, run, cloud):
        assert run("cloudinit", "web", "--dump", "vendor").out == "#v\n"
        ended = run("cloudinit", "web", "--regenerate")
        assert (ended.code, "reads no drive" in ended.err) == (7, True)
