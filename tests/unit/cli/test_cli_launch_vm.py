"""`launch --vm` and `launch --iso`: what is asked of the API for a VM, and what is waited for."""

import re
from urllib.parse import unquote

import pytest

VOLUME = "local:import/debian-12-cloud_20260101_amd64.qcow2"
NODE = "/nodes/pve1"
VM = f"{NODE}/qemu/100"
ADDRESSES = {"result": [{"name": "eth0", "ip-addresses": [{"ip-address": "fe80::1"}, {"ip-address": "10.1.0.9"}]}]}
DEFAULTS = {
    "vmid": "100", "name": "db", "cores": "2", "memory": "1024", "ostype": "l26", "machine": "q35", "storage": "local",
    "serial0": "socket", "scsihw": "virtio-scsi-single", "agent": "1", "rng0": "source=/dev/urandom", "ciupgrade": "0",
    "scsi0": f"local:0,import-from={VOLUME},iothread=1,discard=on", "ide2": "local:cloudinit",
    "net0": "virtio,bridge=vmbr0", "ipconfig0": "ip=dhcp,ip6=auto",
}  # fmt: skip


@pytest.fixture
def host(daemon):
    daemon.on("GET", "/bastide/images", lambda p: [{"volid": VOLUME}] if p.get("type") == "qemu" else [])
    daemon.on("GET", "/cluster/nextid", "100")
    daemon.on("GET", f"{NODE}/status", {"cpuinfo": {"cpus": 8}})
    daemon.on("GET", f"{NODE}/capabilities/qemu/cpu", [{"name": "max"}])
    daemon.on("GET", f"{VM}/status/current", {"status": "running", "accelerator": "kvm"})
    daemon.on("GET", f"{VM}/config", {"scsi0": "local:100/vm-100-disk-0.qcow2,iothread=1,size=3G"})
    daemon.on("GET", f"{VM}/agent/network-get-interfaces", ADDRESSES)
    daemon.on("GET", f"{NODE}/storage/local/content", [])
    daemon.on("PUT", "/bastide/guests/100/cloudinit", None)
    daemon.task("POST", f"{NODE}/qemu")
    daemon.task("PUT", f"{VM}/resize")
    daemon.task("POST", f"{VM}/status/start")
    return daemon


def test_a_vm_is_made_from_the_cloud_image_and_prints_what_a_container_prints(run, host):
    ended = run("launch", "debian-12", "db", "--vm")
    assert (ended.code, ended.out, ended.err) == (0, "100  db  10.1.0.9\n", "")
    assert host.posted("POST", f"{NODE}/qemu") == DEFAULTS
    assert host.posted("PUT", f"{VM}/resize") == {"disk": "scsi0", "size": "8192M"}
    assert not host.made("PUT", "/bastide/guests/100/cloudinit")
    assert run("launch", "debian-12", "db", "--vm", "--json").json == {
        "vmid": 100, "name": "db", "status": "running", "addresses": ["10.1.0.9"],
    }  # fmt: skip


def test_every_option_reaches_the_api(run, host, tmp_path):
    key, texts = tmp_path / "key.pub", {}
    key.write_text("ssh-ed25519 AAAA+/ me\n")
    for part in ("user", "network", "vendor"):
        (tmp_path / part).write_text(f"#cloud-config\n# {part}: é\n")
        texts[part] = f"#cloud-config\n# {part}: é\n"
    ended = run(
        *["launch", "debian-12", "db", "--vm", "--cores", "4", "--memory", "512M", "--disk", "2G"],
        *["--storage", "fast", "--bridge", "br0", "--onboot", "--vmid", "100", "--no-start", "--secure-boot"],
        *f"--ip 10.0.0.2/24 --gw 10.0.0.1 --ssh-key {key} --password-stdin --user ada --tag a --tag b".split(),
        *f"--user-data {tmp_path}/user --network-data {tmp_path}/network --vendor-data {tmp_path}/vendor".split(),
        *["--tpm", "--machine", "pc-q35-7.2", "--cpu", "max"],
        *["--set", "balloon=0", "--set", "agent=1,fstrim_cloned_disks=1"],
        text="geheim\n",
    )
    assert (ended.code, ended.out) == (0, "100  db\n")
    sent = host.posted("POST", f"{NODE}/qemu")
    assert unquote(sent.pop("sshkeys")) == "ssh-ed25519 AAAA+/ me"
    assert sent == {
        **DEFAULTS, "cores": "4", "memory": "512", "storage": "fast", "onboot": "1", "tags": "a;b", "ciuser": "ada",
        "cipassword": "geheim", "scsi0": f"fast:0,import-from={VOLUME},iothread=1,discard=on",
        "ide2": "fast:cloudinit", "net0": "virtio,bridge=br0", "ipconfig0": "ip=10.0.0.2/24,gw=10.0.0.1",
        "machine": "pc-q35-7.2", "cpu": "max", "bios": "ovmf", "efidisk0": "fast:1,efitype=4m,pre-enrolled-keys=1",
        "tpmstate0": "fast:1,version=v2.0", "balloon": "0", "agent": "1,fstrim_cloned_disks=1",
    }  # fmt: skip
    assert host.posted("PUT", "/bastide/guests/100/cloudinit") == texts
    assert not host.made("PUT", f"{VM}/resize"), "an image that is larger is left as it is"
    assert not host.made("POST", f"{VM}/status/start")


def test_uefi_without_secure_boot_has_no_keys(run, host):
    assert run("launch", "debian-12", "db", "--vm", "--uefi").code == 0
    assert host.posted("POST", f"{NODE}/qemu")["efidisk0"] == "local:1,efitype=4m,pre-enrolled-keys=0"


def test_with_kvm_it_gets_the_hosts_cpu(run, host):
    host.on("GET", f"{NODE}/capabilities/qemu/cpu", [{"name": "host"}, {"name": "max"}])
    assert run("launch", "debian-12", "db", "--vm").code == 0
    assert host.posted("POST", f"{NODE}/qemu")["cpu"] == "host"


def test_cores_are_no_more_than_the_host_has(run, host):
    host.on("GET", f"{NODE}/status", {"cpuinfo": {"cpus": 1}})
    assert run("launch", "debian-12", "db", "--vm").code == 0
    assert host.posted("POST", f"{NODE}/qemu")["cores"] == "1"


def test_emulation_is_told_once(run, host):
    status = {"status": "running", "accelerator": "tcg", "warning": "emulated without KVM, and slow: no vmx"}
    host.on("GET", f"{VM}/status/current", status)
    ended = run("launch", "debian-12", "db", "--vm")
    assert (ended.code, ended.err) == (0, "warning: db is emulated without KVM, and slow: no vmx\n")


def test_the_agent_and_an_address_are_waited_for(run, host, refusal):
    answers = iter([refusal(500, "QEMU guest agent is not running"), {"result": [{"name": "lo"}]}, ADDRESSES])
    host.on("GET", f"{VM}/agent/network-get-interfaces", lambda _: next(answers))
    assert run("launch", "debian-12", "db", "--vm").out == "100  db  10.1.0.9\n"


def test_without_an_address_to_come_the_agent_is_enough(run, host):
    host.on("GET", f"{VM}/agent/network-get-interfaces", {"result": []})
    assert run("launch", "debian-12", "db", "--vm", "--ip", "manual").out == "100  db\n"


@pytest.mark.parametrize(
    ("answer", "text"), [(None, "guest agent has not answered"), ({"result": []}, "has no address")]
)
def test_one_that_does_not_come_up_is_kept_and_told(run, host, refusal, answer, text):
    host.on("GET", f"{VM}/agent/network-get-interfaces", answer or refusal(500, "QEMU guest agent is not running"))
    ended = run("launch", "debian-12", "db", "--vm", "--timeout", "0")
    assert ended.code == 8
    assert text in ended.err
    assert "it was kept" in ended.err
    assert "bastide console" in ended.err


def test_one_that_ends_meanwhile_is_told(run, host, refusal):
    states = iter(["running", "stopped"])
    host.on("GET", f"{VM}/status/current", lambda _: {"status": next(states)})
    host.on("GET", f"{VM}/agent/network-get-interfaces", refusal(500, "VM 100 is not running"))
    ended = run("launch", "debian-12", "db", "--vm")
    assert ended.code == 6
    assert "does not run any more" in ended.err


def test_a_failure_before_the_start_removes_the_vm(run, host):
    host.guest(100, "db", kind="qemu")
    made = host.answers["GET", "/bastide/guests/100"]
    for name in ("100", "db"):
        del host.answers["GET", f"/bastide/guests/{name}"]
    host.task("DELETE", VM)

    def grow(_):
        host.on("GET", "/bastide/guests/100", made)
        return upid

    upid = host.task("PUT", f"{VM}/resize", end="no space left on the storage")
    host.on("PUT", f"{VM}/resize", grow)
    ended = run("launch", "debian-12", "db", "--vm")
    assert (ended.code, "no space left" in ended.err) == (1, True)
    assert host.posted("DELETE", VM) == {"purge": "1"}
    assert not host.made("POST", f"{VM}/status/start")


def test_a_missing_image_is_built_for_vms(run, host):
    rows = []
    host.on("GET", "/bastide/images", lambda _: rows)
    upid = host.task("POST", "/bastide/images/build")
    host.on("POST", "/bastide/images/build", lambda _: rows.append({"volid": VOLUME}) or upid)
    assert run("launch", "debian-12", "db", "--vm").code == 0
    assert host.posted("POST", "/bastide/images/build") == {"name": "debian-12", "storage": "local", "kind": "qemu"}


def test_a_disk_image_is_a_vms_without_saying_so(run, host):
    host.on("GET", "/bastide/images", [{"volid": VOLUME}])
    assert run("launch", VOLUME, "db").code == 0
    assert host.made("POST", f"{NODE}/qemu")


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["debian-12", "db", "--vm", "--privileged"], "privileged"),
        (["debian-12", "db", "--uefi", "--tpm"], "tpm: is for VMs"),
        (["debian-12", "db", "--network-data", "/dev/null"], "network-data: is for VMs"),
        (["debian-12", "db", "--vm", "--user-data", "/nonexistent"], "user-data"),
        (["debian-12", "db", "--vm", "--set", "x"], "KEY=VALUE"),
        (["--iso", "local:iso/a.iso", "any", "--ssh-key", "/dev/null"], "ssh-key"),
        (["debian-12"], "NAME"),
        ([], "IMAGE"),
        (["debian-12", "a", "--name", "b"], "one NAME"),
        (["debian-12", "a", "b", "--vm"], ""),
    ],
)
def test_what_does_not_go_together_makes_nothing(run, host, options, named):
    ended = run("launch", *options)
    assert ended.code == 2
    assert named in ended.err
    assert host.calls == []


# --- from a CD


def test_an_iso_boots_an_empty_disk_and_says_how_to_look(run, host):
    ended = run("launch", "--iso", "local:iso/any.iso", "--name", "any", "--os", "other", "--disk", "1G")
    assert (ended.code, ended.out) == (0, "100  any\n")
    assert host.posted("POST", f"{NODE}/qemu") == {
        "vmid": "100", "name": "any", "cores": "2", "memory": "1024", "ostype": "other", "storage": "local",
        "serial0": "socket", "ide2": "local:iso/any.iso,media=cdrom", "sata0": "local:1,discard=on",
        "net0": "e1000,bridge=vmbr0",
    }  # fmt: skip
    assert "bastide screenshot any -o any.png" in ended.err
    assert not host.made("GET", f"{VM}/agent/network-get-interfaces")


def test_linux_from_a_cd_has_virtio_devices(run, host):
    assert run("launch", "--iso", "local:iso/any.iso", "any").code == 0
    sent = host.posted("POST", f"{NODE}/qemu")
    assert (sent["scsi0"], sent["net0"]) == ("local:8,iothread=1,discard=on", "virtio,bridge=vmbr0")
    assert sent["machine"] == "q35"


def test_a_local_iso_is_uploaded_first(run, host, tmp_path):
    file = tmp_path / 'a "b".iso'
    file.write_bytes(b"CD001\r\n--x" * 100_000)
    upid = host.task("POST", f"{NODE}/storage/local/upload")
    assert run("launch", "--iso", str(file), "any").code == 0
    assert host.posted("POST", f"{NODE}/qemu")["ide2"] == f"local:iso/{file.name},media=cdrom"
    body = host.posted("POST", f"{NODE}/storage/local/upload")["body"]
    boundary = re.match(rb"--([0-9a-f]{32})\r\n", body)[1]
    parts = body.split(b"\r\n--" + boundary)
    assert len(parts) == 3
    assert b'name="content"\r\n\r\niso' in parts[0]
    assert b'name="filename"; filename="a %22b%22.iso"' in parts[1]
    assert parts[1].endswith(b"\r\n\r\n" + file.read_bytes())
    assert parts[2] == b"--\r\n"
    assert upid


def test_an_iso_that_is_there_is_not_uploaded_again(run, host, tmp_path):
    file = tmp_path / "a.iso"
    file.write_bytes(b"x" * 10)
    host.on("GET", f"{NODE}/storage/local/content", [{"volid": "local:iso/a.iso", "size": 10}])
    assert run("launch", "--iso", str(file), "any").code == 0
    host.on("GET", f"{NODE}/storage/local/content", [{"volid": "local:iso/a.iso", "size": 11}])
    ended = run("launch", "--iso", str(file), "any")
    assert (ended.code, "another file" in ended.err) == (6, True)


def test_an_iso_that_is_nowhere_is_told(run, host):
    ended = run("launch", "--iso", "nowhere.iso", "any")
    assert (ended.code, "STORAGE:iso/FILE" in ended.err) == (3, True)


# --- containers take the same texts


def test_a_container_gets_user_data_when_its_template_has_cloud_init(run, daemon, tmp_path):
    volume = "local:vztmpl/debian-12-cloud.tar.zst"
    (tmp_path / "user").write_text("#cloud-config\n")
    rows = [{"volid": volume, "cloudinit": 1}]
    daemon.on("GET", "/bastide/images", lambda _: rows)
    daemon.on("GET", "/cluster/nextid", "100")
    daemon.on("PUT", "/bastide/guests/100/cloudinit", None)
    daemon.task("POST", f"{NODE}/lxc")
    options = ["launch", "debian-12-cloud", "web", "--no-start", "--user-data", str(tmp_path / "user")]
    assert run(*options).code == 0
    assert daemon.posted("PUT", "/bastide/guests/100/cloudinit") == {"user": "#cloud-config\n"}
    rows[0]["cloudinit"] = 0
    daemon.calls.clear()
    ended = run(*options)
    assert (ended.code, "debian-12-cloud" in ended.err) == (7, True)
    assert not daemon.made("POST", f"{NODE}/lxc")
