"""How `launch` makes a container."""

import time
from typing import Any

from bastide.base.errors import DeadlineExceeded, InvalidParameter, NotFound, NotSupported
from bastide.cli import images, progress
from bastide.cli.configure import key_values
from bastide.cli.launch_options import Asked
from bastide.cli.launching import Made, addresses_of, default_bridge, gateway_of, set_cloud_texts
from bastide.cli.session import Session

BRANCH = "lxc"
_TIMEOUT = 60


def local_parameters(asked: Asked) -> dict[str, Any]:
    """What the options say by themselves."""
    only_vm = {
        "user": asked.user, "network-data": asked.network_data, "os": asked.os, "uefi": asked.uefi,
        "secure-boot": asked.secure_boot, "tpm": asked.tpm, "machine": asked.machine, "cpu": asked.cpu,
    }  # fmt: skip
    wrong = {option: "is for VMs: add --vm" for option, value in only_vm.items() if value}
    if asked.network_data:
        wrong["network-data"] = "is for VMs: a container's network is what --net, --ip and --bridge say"
    if wrong:
        raise InvalidParameter(wrong)
    _ = asked.cloud_texts, key_values(asked.settings or [])  # what is wrong is told before anything is made
    return {
        "hostname": asked.name,
        "cores": asked.cores,
        "memory": asked.mebibytes,
        "rootfs": f"{asked.storage}:{asked.gibibytes}",
        "unprivileged": not asked.privileged,
        "features": "nesting=1" if asked.nesting else None,
        "onboot": asked.onboot or None,
        "tags": ";".join(asked.tag) if asked.tag else None,
        "ssh-public-keys": asked.keys,
        "password": asked.read_password(),
    }


def host_parameters(session: Session, asked: Asked) -> dict[str, Any]:
    """What depends on the host: the network, and the template, which is obtained."""
    params = _interfaces(session, asked) | key_values(asked.settings or [])
    params["ostemplate"] = images.obtain(session, asked.image, asked.storage)
    if asked.cloud_texts:
        _require_cloud_init(session, params["ostemplate"], asked.image)
    return params


def prepare(session: Session, made: Made, asked: Asked) -> None:
    """Leave the texts for cloud-init."""
    set_cloud_texts(session, made, asked.cloud_texts)


def await_up(session: Session, made: Made, asked: Asked, params: dict[str, Any]) -> list[str]:
    """The container's addresses, as soon as it has one."""
    timeout = _TIMEOUT if asked.timeout is None else asked.timeout
    wanted = [str(value) for key, value in params.items() if key.startswith("net") and "ip=manual" not in str(value)]
    until, pause = time.monotonic() + timeout, 0.02
    with progress.ProgressLine(f"waiting for {made.name}") as line:
        while True:
            status = session.client().get(f"{made.path}/status/current").get("status")
            if status != "running":
                raise NotFound(
                    f"{made.name} ended right after its start: bastide console{session.root_option} {made.name}"
                )
            addresses = addresses_of(session.client().get(f"{made.path}/interfaces"))
            if addresses or not any("ip" in text for text in wanted):
                return addresses
            if time.monotonic() > until:
                raise DeadlineExceeded(
                    f"{made.name} ({made.vmid}) runs and has no address after {timeout} seconds; it was kept: "
                    f"look with bastide console{session.root_option} {made.name}"
                )
            line.tick()
            time.sleep(pause)
            pause = min(pause * 1.3, 0.1)


def _interfaces(session: Session, asked: Asked) -> dict[str, str]:
    if asked.net:
        return {f"net{index}": text for index, text in enumerate(asked.net)}
    parts = ["name=eth0", f"bridge={asked.bridge or default_bridge(session)}", f"ip={asked.ip}"]
    gateway = gateway_of(session, asked.ip, asked.bridge, asked.gateway)
    parts += [f"gw={gateway}"] if gateway else []
    parts += ["ip6=auto"] if asked.ip == "dhcp" else []
    return {"net0": ",".join(parts)}


def _require_cloud_init(session: Session, volume: str, image: str) -> None:
    row = next((row for row in images.known(session) if row.get("volid") == volume), {})
    if row.get("cloudinit") == 0:
        raise NotSupported(
            f"'{image}' has no cloud-init in it, so --user-data and --vendor-data cannot do anything: use a template "
            "that has it, such as debian-12-cloud, or a VM"
        )
