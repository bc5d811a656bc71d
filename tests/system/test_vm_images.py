"""A built disk image for VMs: what is in it, and that it boots by BIOS and by UEFI to its agent.

QEMU is run by hand here, as plain as can be: whether the image is good does not depend on how Bastide starts VMs.
"""

import base64
import contextlib
import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bastide.guest.cloudinit import Seed, SeedNic, documents, iso
from framework.host import Host

pytestmark = pytest.mark.system

MAC = "52:54:00:12:34:56"
FIRMWARE = Path("/usr/share/OVMF")
BOOT_DEADLINE = 500


def image_path(host: Host) -> Path:
    return host.root / "state/storage/import" / host.vm_image().rpartition("/")[2]


@pytest.mark.timeout(1200)
def test_an_image_is_small_described_and_listed(host: Host) -> None:
    path = image_path(host)
    assert path.stat().st_size < 350_000_000
    said = json.loads(subprocess.check_output(["qemu-img", "info", "--output=json", str(path)]))
    assert (said["format"], said["virtual-size"]) == ("qcow2", 3 << 30)
    manifest = json.loads(path.with_name(f"{path.name}.manifest.json").read_text())
    assert manifest["size"] == path.stat().st_size
    for package in ("cloud-init", "qemu-guest-agent", "linux-image-amd64", "openssh-server", "grub-cloud-amd64"):
        assert manifest["packages"][package]
    row = next(row for row in host.get("/bastide/images", type="qemu") if row["volid"] == host.vm_image())
    assert (row["alias"], row["type"], row["cloudinit"]) == ("debian-12", "qemu", 1)
    assert host.get("/bastide/images", name="debian-12", type="qemu")[0]["volid"] == host.vm_image()


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("firmware", "disk", "nic"),
    [("bios", "virtio", "virtio-net-pci"), ("uefi", "sata", "e1000"), ("secure", "scsi", "virtio-net-pci")],
)
def test_it_boots_to_its_agent(host: Host, tmp_path: Path, firmware: str, disk: str, nic: str) -> None:
    image = image_path(host)
    with booted(image, tmp_path, firmware, disk, nic) as agent:
        agent.run("cloud-init status --wait")
        assert agent.run("hostname -f").strip() == "db.example.org"
        assert agent.run("systemctl --failed --plain --no-legend").strip() == ""
        assert int(agent.run("df --output=size -m / | tail -1")) > 6000, "the root file system fills the disk"
        assert (
            agent.run(f"cat /sys/class/net/$(ip -o link | grep -i {MAC} | cut -d' ' -f2 | tr -d :)/operstate") == "up\n"
        )
        assert len(agent.run("cat /etc/machine-id").strip()) == 32
        assert "ssh_host_ed25519_key.pub" in agent.run("ls /etc/ssh")
        assert "someone@example.org" in agent.run("cat /home/debian/.ssh/authorized_keys")
        assert agent.run("systemctl is-active serial-getty@ttyS0").strip() == "active"
        assert agent.run("test -d /sys/firmware/efi && echo yes || echo no").strip() == (
            "no" if firmware == "bios" else "yes"
        )
        if firmware == "secure":
            assert "Secure boot enabled" in agent.run("dmesg | grep -i 'secure boot'")
        agent.run("update-grub")
        assert "console=ttyS0,115200" in agent.run("grep -m1 vmlinuz /boot/grub/grub.cfg")


class Agent:
    """The guest agent behind a UNIX socket."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def ask(self, command: str, timeout: float, **arguments: Any) -> Any:
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(timeout)
            link.connect(str(self._path))
            # Answers to earlier questions, also to those of this kind, may still be in the channel.
            number = time.monotonic_ns() % 10**9
            sync = {"execute": "guest-sync-delimited", "arguments": {"id": number}}
            link.sendall(b"\xff" + json.dumps(sync).encode() + b"\n")
            answers = link.makefile("rb")
            while f'{{"return": {number}}}'.encode() not in (line := answers.readline()):
                if not line:
                    raise OSError("the agent is gone")
            link.sendall(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
            return json.loads(answers.readline())["return"]

    def run(self, line: str) -> str:
        pid = self.ask("guest-exec", 60, path="/bin/sh", arg=["-c", line], **{"capture-output": True})["pid"]
        while not (status := self.ask("guest-exec-status", 60, pid=pid))["exited"]:
            time.sleep(1)
        return base64.b64decode(status.get("out-data", "")).decode()


@contextlib.contextmanager
def booted(image: Path, folder: Path, firmware: str, disk: str, nic: str) -> Iterator[Agent]:
    """A VM with a disk on top of `image`, a NoCloud drive and an agent that answers."""
    overlay = folder / "disk.qcow2"
    subprocess.run(
        ["qemu-img", "create", "-q", "-f", "qcow2", "-b", str(image), "-F", "qcow2", str(overlay), "8G"], check=True
    )
    seed = Seed(
        "db",
        fqdn="db.example.org",
        ssh_keys=("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHtest someone@example.org",),
        upgrade=False,
        nics=(SeedNic(0, MAC),),
    )
    (folder / "seed.iso").write_bytes(iso(documents(seed)))
    device = {
        "virtio": ["-device", "virtio-blk-pci,drive=d"],
        "sata": ["-device", "ide-hd,drive=d,bus=ide.0"],
        "scsi": ["-device", "virtio-scsi-pci", "-device", "scsi-hd,drive=d"],
    }[disk]
    argv = [
        *(
            "qemu-system-x86_64",
            "-machine",
            "q35,smm=on" if firmware == "secure" else "q35",
            "-cpu",
            "max",
            "-smp",
            "2",
        ),
        *("-accel", "tcg,thread=multi,tb-size=128", "-m", "1G", "-display", "none", "-nodefaults"),
        *("-serial", f"file:{folder}/serial", "-device", "virtio-rng-pci", *firmware_options(firmware, folder)),
        *("-drive", f"file={overlay},if=none,id=d,format=qcow2,cache=unsafe", *device),
        *("-drive", f"file={folder}/seed.iso,if=none,id=c,format=raw,media=cdrom,readonly=on"),
        *("-device", "ide-cd,drive=c,bus=ide.2", "-nic", f"user,model={nic},mac={MAC}"),
        *("-device", "virtio-serial-pci", "-chardev", f"socket,id=a,path={folder}/agent,server=on,wait=off"),
        *("-device", "virtserialport,chardev=a,name=org.qemu.guest_agent.0"),
    ]
    process = subprocess.Popen(argv)
    try:
        agent = Agent(folder / "agent")
        wait_for(agent, process, folder)
        yield agent
    finally:
        process.kill()
        process.wait()


def firmware_options(firmware: str, folder: Path) -> list[str]:
    if firmware == "bios":
        return []
    code, variables = ("secboot", "ms.") if firmware == "secure" else ("", "")
    shutil.copy(FIRMWARE / f"OVMF_VARS_4M.{variables}fd", folder / "vars.fd")
    flash = FIRMWARE / f"OVMF_CODE_4M.{code + '.' if code else ''}fd"
    return [
        *("-global", "driver=cfi.pflash01,property=secure,value=on" if code else "ICH9-LPC.disable_s3=1"),
        *("-drive", f"if=pflash,format=raw,readonly=on,file={flash}"),
        *("-drive", f"if=pflash,format=raw,file={folder}/vars.fd"),
    ]


def wait_for(agent: Agent, process: subprocess.Popen[bytes], folder: Path) -> None:
    deadline = time.monotonic() + BOOT_DEADLINE
    while True:
        assert process.poll() is None, "QEMU ended"
        assert time.monotonic() < deadline, (folder / "serial").read_text(errors="replace")[-2000:]
        try:
            agent.ask("guest-ping", 3)
            return
        except (OSError, ValueError):
            time.sleep(1)
