"""Guests that are not Linux, judged by what they show: firmware, boot loaders, network boot."""

import socket
import ssl
import struct
import time
from pathlib import Path
from typing import Any

import pytest

from framework.host import ApiFailure, Host
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


def tunnel(host: Host, offer: dict[str, Any], name: str) -> tuple[bytes, ssl.SSLSocket | None]:
    """What the proxy answers to a SPICE client, and the client's TLS connection through it."""
    connection = socket.create_connection(("127.0.0.1", host.port), timeout=10)
    connection.sendall(f"CONNECT {name}:{offer['tls-port']} HTTP/1.0\r\n\r\n".encode())
    status = connection.recv(4096).split(b"\r\n")[0]
    if b" 200 " not in status:
        connection.close()
        return status, None
    context = ssl.create_default_context(cadata=offer["ca"].replace("\\n", "\n"))
    context.check_hostname = False
    return status, context.wrap_socket(connection)


def test_a_spice_client_comes_through_the_apis_port(host: Host) -> None:
    plain = host.create_vm(start=True)
    with pytest.raises(ApiFailure, match="vga=qxl"):
        host.post(host.path(plain, "/spiceproxy"))
    vmid = host.create_vm(vga="qxl", start=True)
    offer = host.post(host.path(vmid, "/spiceproxy"), proxy="127.0.0.1")
    assert offer["proxy"] == f"http://127.0.0.1:{host.port}"
    for _ in range(2):  # a client opens a connection for each of its channels
        _, secured = tunnel(host, offer, offer["host"])
        assert secured is not None
        with secured:
            # SpiceLinkHeader and SpiceLinkMess of the main channel, protocol 2.2 (spice/protocol.h)
            message = struct.pack("<IBBIII", 0, 1, 0, 1, 0, 18) + struct.pack("<I", 0)
            secured.sendall(b"REDQ" + struct.pack("<III", 2, 2, len(message)) + message)
            answer = secured.recv(4096)
            assert answer[:4] == b"REDQ"
            assert struct.unpack_from("<I", answer, 16) == (0,), "QEMU takes the link and asks for the password"
    for wrong in ("spice-" + "0" * 48, "localhost", f"{offer['host']}x"):
        status, secured = tunnel(host, offer, wrong)
        assert secured is None
        assert b" 403 " in status
    for guest in (plain, vmid):
        host.act(guest, "stop")
    status, secured = tunnel(host, offer, offer["host"])
    assert secured is None
    assert b" 403 " in status
