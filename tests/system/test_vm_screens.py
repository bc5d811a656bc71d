"""Guests that are not Linux, judged by what they show: firmware, boot loaders, network boot."""

import time
from pathlib import Path

import pytest

from framework.host import Host
from framework.screen import colours

pytestmark = pytest.mark.system

IPXE = Path("/usr/lib/ipxe/ipxe.iso")
GRUB = Path("/usr/lib/grub-rescue/grub-rescue-cdrom.iso")


def iso(host: Host, file: Path) -> str:
    """Upload an ISO image as a user would; its volume id."""
    volid = f"local:iso/{file.name}"
    if volid not in {row["volid"] for row in host.get(f"/nodes/{host.node}/storage/local/content", content="iso")}:
        with file.open("rb") as opened:
            answer = host.http.post(
                f"/nodes/{host.node}/storage/local/upload", data={"content": "iso"}, files={"filename": opened}
            )
        host.wait(answer.json()["data"])
    return volid


def test_ipxe_boots_from_its_iso_and_gets_an_address(host: Host) -> None:
    vmid = host.create_vm(
        ide2=f"{iso(host, IPXE)},media=cdrom", net0=f"e1000,bridge={host.bridge}", boot="order=ide2", ostype="other"
    )
    host.act(vmid, "start")
    assert "SeaBIOS" in host.wait_screen(vmid, "iPXE ISO boot image")
    host.wait_screen(vmid, "net0: 10.")
    status = host.get(host.path(vmid, "/status/current"))
    assert status["netout"] > 0, "what the guest sent"
    assert status["netin"] > 0, "what it received"
    host.act(vmid, "stop")


def test_grub_shows_its_menu_and_takes_keys(host: Host) -> None:
    vmid = host.create_vm(sata0=f"{iso(host, GRUB)},media=cdrom", machine="q35", boot="order=sata0", ostype="other")
    host.act(vmid, "start")
    assert "GNU GRUB" in host.wait_screen(vmid, "FreeBSD")
    host.put(host.path(vmid, "/sendkey"), key="c")
    assert "grub>" in host.wait_screen(vmid, "grub>")
    host.act(vmid, "reset")
    host.wait_screen(vmid, "GNU/Linux")
    host.act(vmid, "stop")


def test_uefi_with_secure_boot_and_a_tpm_shows_its_logo(host: Host) -> None:
    vmid = host.create_vm(
        memory=256, machine="q35", bios="ovmf", efidisk0="local:1,efitype=4m,pre-enrolled-keys=1",
        tpmstate0="local:1,version=v2.0", net0=f"virtio,bridge={host.bridge}",
    )  # fmt: skip
    host.act(vmid, "start")
    deadline = time.monotonic() + 180
    while colours(host.screenshot(vmid)) <= 20:
        assert time.monotonic() < deadline, "the firmware's logo has many colours"
        time.sleep(1)
    status = host.get(host.path(vmid, "/status/current"))
    assert "error" not in status
    host.act(vmid, "stop")
    host.act(vmid, "start")
    host.act(vmid, "stop")
    config = host.get(host.path(vmid, "/config"))
    assert config["efidisk0"].startswith(f"local:{vmid}/vm-{vmid}-disk-")
    assert config["tpmstate0"].startswith(f"local:{vmid}/vm-{vmid}-disk-")
