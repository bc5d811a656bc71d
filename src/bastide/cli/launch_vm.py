"""How `launch` makes a VM: from a cloud image, or with an empty disk and a CD to install from."""

import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

from bastide.base import propstring, units
from bastide.base.errors import BastideError, DeadlineExceeded, HostFailure, InvalidParameter, NotFound, WrongState
from bastide.cli import images, output, progress
from bastide.cli.configure import key_values
from bastide.cli.launch_options import Asked
from bastide.cli.launching import Made, addresses_of, default_bridge, gateway_of, set_cloud_texts
from bastide.cli.session import Session
from bastide.client.http import read_chunks, segment

BRANCH = "qemu"
_TIMEOUT, _TIMEOUT_EMULATED = 180, 600
_DEFAULT_CORES = 2
_MODERN = ("l26", "win10", "win11")
_LINUX = ("l24", "l26")


def local_parameters(asked: Asked) -> dict[str, Any]:
    """What the options say by themselves."""
    wrong = {"privileged": "is for containers"} if asked.privileged else {}
    if asked.iso is not None:
        only_cloud = {
            "user": asked.user, "ssh-key": asked.ssh_key, "password-stdin": asked.password_stdin,
            "user-data": asked.user_data, "network-data": asked.network_data, "vendor-data": asked.vendor_data,
        }  # fmt: skip
        wrong |= {option: "needs an image with cloud-init, not --iso" for option, value in only_cloud.items() if value}
    if wrong:
        raise InvalidParameter(wrong)
    _ = asked.cloud_texts, key_values(asked.settings or [])  # what is wrong is told before anything is made
    return {
        "name": asked.name,
        "cores": asked.cores,
        "memory": asked.mebibytes,
        "onboot": asked.onboot or None,
        "tags": ";".join(asked.tag) if asked.tag else None,
        "ostype": asked.os or "l26",
        "serial0": "socket",
        **_firmware(asked),
        **(_installer(asked) if asked.iso is not None else _cloud(asked)),
    }


def host_parameters(session: Session, asked: Asked) -> dict[str, Any]:
    """What depends on the host: the processor, the network, and the image or the CD, which are obtained."""
    params = _processor(session, asked) | _interfaces(session, asked)
    if asked.iso is not None:
        params["ide2"] = f"{_cd(session, asked.iso, asked.storage)},media=cdrom"
    else:
        volume = images.obtain(session, asked.image, asked.storage, vm=True)
        params["scsi0"] = f"{asked.storage}:0,import-from={volume},iothread=1,discard=on"
    return params | key_values(asked.settings or [])


def prepare(session: Session, made: Made, asked: Asked) -> None:
    """Grow the disk from the image's size to the one asked for, and leave the texts for cloud-init."""
    if asked.iso is None:
        _grow(session, made, asked)
        set_cloud_texts(session, made, asked.cloud_texts)


def await_up(session: Session, made: Made, asked: Asked, params: dict[str, Any]) -> list[str]:
    """The VM's addresses, as soon as its agent answers and tells one; none of one that boots from a CD."""
    status = _running(session, made)
    if status.get("warning"):
        output.note(f"warning: {made.name} is {status['warning']}")
    if asked.iso is not None:
        return []
    usual = _TIMEOUT_EMULATED if status.get("accelerator") == "tcg" else _TIMEOUT
    timeout = usual if asked.timeout is None else asked.timeout
    expected = "ip=manual" not in str(params.get("ipconfig0")) and any(key.startswith("net") for key in params)
    until, trouble = time.monotonic() + timeout, "its guest agent has not answered"
    with progress.ProgressLine(f"waiting for {made.name}") as line:
        while True:
            try:
                answer = session.client().get(f"{made.path}/agent/network-get-interfaces")
                addresses = addresses_of(answer.get("result") or [])
                if addresses or not expected:
                    return addresses
                trouble = "has no address"
            except InvalidParameter:
                raise
            except BastideError:
                _running(session, made)
            if time.monotonic() > until:
                raise DeadlineExceeded(
                    f"{made.name} ({made.vmid}) runs and {trouble} after {timeout} seconds; it was kept: "
                    f"look with bastide console{session.root_option} {made.name}"
                )
            line.tick()
            time.sleep(0.25)


def _running(session: Session, made: Made) -> dict[str, Any]:
    status: dict[str, Any] = session.client().get(f"{made.path}/status/current")
    if status.get("status") != "running":
        raise WrongState(
            f"{made.name} ({made.vmid}) does not run any more; it was kept: "
            f"bastide task ls{session.root_option} --guest {made.vmid}"
        )
    return status


def _firmware(asked: Asked) -> dict[str, Any]:
    system = asked.os or "l26"
    params: dict[str, Any] = {"machine": asked.machine or ("q35" if system in _MODERN else None)}
    if asked.uefi or asked.secure_boot:
        keys = int(asked.secure_boot)
        params |= {"bios": "ovmf", "efidisk0": f"{asked.storage}:1,efitype=4m,pre-enrolled-keys={keys}"}
    if asked.tpm:
        params["tpmstate0"] = f"{asked.storage}:1,version=v2.0"
    return {**params, "storage": asked.storage}


def _cloud(asked: Asked) -> dict[str, Any]:
    keys = asked.keys
    return {
        "scsihw": "virtio-scsi-single",
        "ide2": f"{asked.storage}:cloudinit",
        "agent": "1",
        "rng0": "source=/dev/urandom",
        "ciupgrade": False,  # the packages of a whole release are not what a first boot should wait for
        "ciuser": asked.user,
        "sshkeys": quote(keys, safe="") if keys else None,
        "cipassword": asked.read_password(),
    }


def _installer(asked: Asked) -> dict[str, Any]:
    """An empty disk and devices that the system knows by itself: virtio's are Linux' alone."""
    if (asked.os or "l26") in _LINUX:
        disk = {"scsihw": "virtio-scsi-single", "scsi0": f"{asked.storage}:{asked.gibibytes},iothread=1,discard=on"}
        return {**disk, "agent": "1", "rng0": "source=/dev/urandom"}
    return {"sata0": f"{asked.storage}:{asked.gibibytes},discard=on"}


def _processor(session: Session, asked: Asked) -> dict[str, Any]:
    """The host's own CPU where KVM can give it, and two cores where the host has them."""
    params: dict[str, Any] = {}
    node = f"/nodes/{session.node()}"
    if asked.cpu is not None:
        params["cpu"] = asked.cpu
    elif any(row.get("name") == "host" for row in session.client().get(f"{node}/capabilities/qemu/cpu")):
        params["cpu"] = "host"
    if asked.cores is None:
        there = session.client().get(f"{node}/status").get("cpuinfo", {}).get("cpus", 1)
        params["cores"] = min(_DEFAULT_CORES, int(there))
    return params


def _interfaces(session: Session, asked: Asked) -> dict[str, str]:
    model = "virtio" if (asked.os or "l26") in _LINUX else "e1000"
    params = {f"net{index}": text for index, text in enumerate(asked.net or [])}
    if not params:
        params["net0"] = f"{model},bridge={asked.bridge or default_bridge(session)}"
    if asked.iso is None:
        gateway = gateway_of(session, asked.ip, asked.bridge, asked.gateway)
        parts = [f"ip={asked.ip}", f"gw={gateway}" if gateway else "", "ip6=auto" if asked.ip == "dhcp" else ""]
        params["ipconfig0"] = ",".join(part for part in parts if part)
    return params


def _grow(session: Session, made: Made, asked: Asked) -> None:
    config: dict[str, Any] = session.client().get(f"{made.path}/config")
    size = propstring.parse(str(config.get("scsi0", "")), "file").get("size")
    if size is None or asked.disk_size <= units.parse_size(size):
        return
    mebibytes = -(-asked.disk_size // units.MIB)
    made.upid = session.client().put(f"{made.path}/resize", {"disk": "scsi0", "size": f"{mebibytes}M"})
    progress.follow(session, made.upid, f"growing the disk of {made.name}", leave=False)


def _cd(session: Session, iso: str, storage: str) -> str:
    """The volume of a CD; a file of this machine's is uploaded, unless the storage has one of its name and size."""
    path = Path(iso).expanduser()
    if not path.is_file():
        if ":" not in iso:
            raise NotFound(f"the file '{iso}' does not exist; a CD on a storage is written STORAGE:iso/FILE")
        return iso
    volume = f"{storage}:iso/{path.name}"
    node, size = session.node(), path.stat().st_size
    rows = session.client().get(f"/nodes/{node}/storage/{segment(storage)}/content", content="iso")
    there = next((row for row in rows if row["volid"] == volume), None)
    if there is not None:
        if there.get("size") != size:
            raise WrongState(f"'{volume}' exists and is another file than {path}: rename one, or use --iso {volume}")
        return volume
    with path.open("rb") as file, progress.ProgressLine(f"uploading {path.name}") as line:
        chunks = progress.counted(read_chunks(file, size), size, line)
        where = f"/nodes/{node}/storage/{segment(storage)}/upload"
        upid = session.client().upload_form(where, {"content": "iso"}, path.name, chunks, size)
    if not isinstance(upid, str):
        raise HostFailure(f"the upload of {path.name} did not begin")
    progress.follow(session, upid, f"storing {path.name}")
    return volume
