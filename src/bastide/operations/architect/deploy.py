"""One guest of a plan: from an order to a guest that answers, through the operations that a caller of the API uses.

Each step may be repeated, so that a guest whose making was interrupted is finished by the next run.
"""

import asyncio
import ipaddress
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from bastide.architect.differences import Order, disk_key, values
from bastide.base import propstring
from bastide.base.errors import DeadlineExceeded, WrongState
from bastide.base.ids import Upid
from bastide.base.units import MIB, parse_size
from bastide.model.access import Identity
from bastide.model.container import ContainerOptions
from bastide.model.guest import Guest, GuestState
from bastide.model.homelab import PlannedMount
from bastide.model.record import Scalar
from bastide.model.vm import VmConfig, VmOptions
from bastide.operations.addresses import addresses
from bastide.operations.architect import inside
from bastide.operations.architect.install import install as install_recipe
from bastide.operations.architect.subtasks import finished
from bastide.operations.ct import power as ct_power
from bastide.operations.ct.create import Credentials, create_container
from bastide.operations.ct.resize import resize_volume
from bastide.operations.rooms import Rooms
from bastide.operations.vm import cloudinit
from bastide.operations.vm import power as vm_power
from bastide.operations.vm.cloudinit import CloudInit
from bastide.operations.vm.create import create_vm
from bastide.operations.vm.disks import resize_disk
from bastide.tasks.tasks import Task

_SECONDS = {"lxc": 60.0, "qemu": 180.0}
_EMULATED_SECONDS = 1800.0
_PAUSE = 0.2
_MOUNT_SECONDS = 300.0

# A disk is found by its serial number, whatever order the guest's kernel gives to its disks; one with a file system
# is taken as it is, so that a second run does no harm.
_MOUNT = """\
path=$1 serial=$2 options=$3
device=$(lsblk -dnro PATH,SERIAL | while read -r found mark; do [ "$mark" != "$serial" ] || echo "$found"; done)
[ -n "$device" ] || { echo "the disk $serial is not there" >&2; exit 1; }
blkid -p "$device" >/dev/null || mkfs.ext4 -q -m 1 "$device"
uuid=$(blkid -p -s UUID -o value "$device")
mkdir -p "$path"
grep -q "^UUID=$uuid " /etc/fstab || echo "UUID=$uuid $path ext4 $options,nofail 0 2" >>/etc/fstab
mountpoint -q "$path" || mount "$path"
"""


@dataclass(frozen=True, slots=True)
class Making:
    """A guest to be made: what it shall be, its name and vmid, and the volume id of its image."""

    one: Order
    name: str
    vmid: int
    image: str


async def deploy(rooms: Rooms, by: Identity, making: Making, task: Task) -> Guest:
    """Make a guest, start it and make its service run. Returns its record.

    Raises what the single operations raise. A guest that was made and does not answer is kept.
    """
    await make(rooms, by, making)
    return await finish(rooms, by, making.one, await rooms.guests.get(making.vmid), task)


async def make(rooms: Rooms, by: Identity, making: Making) -> None:
    """Make a guest, as a task of its own, and do not start it. Raises AlreadyExists, InvalidParameter, HostFailure."""
    await finished(rooms, _create(rooms, by, making))


async def finish(rooms: Rooms, by: Identity, one: Order, guest: Guest, task: Task, *, install: bool = True) -> Guest:
    """Make a guest that exists run and answer; with `install` also its mounts and its service.

    Raises DeadlineExceeded when it does not answer, and what the single operations raise.
    """
    vmid = guest.vmid
    stopped = rooms.engine(guest).state(vmid) is GuestState.STOPPED
    if stopped and install:
        if guest.kind == "lxc" and one.service.user_data:
            await cloudinit.set_data(rooms, vmid, CloudInit(user=one.service.user_data))
        await grow(rooms, by, one, guest)
    if stopped:
        task.log(f"starting {guest.title}")
        await finished(rooms, (ct_power if guest.kind == "lxc" else vm_power).start(rooms, by, vmid))
    elif rooms.engine(guest).state(vmid) is GuestState.PAUSED:
        task.log(f"resuming {guest.title}")
        await finished(rooms, _resume(rooms, by, guest))
    guest = await rooms.guests.get(vmid)
    disks = guest.kind == "qemu" and bool(one.service.mounts)
    await _await_answer(rooms, one, guest, inner=install and (disks or one.recipe is not None))
    if install and disks:
        await _mount(rooms, one, guest, task)
    if install and one.entry is not None and one.recipe is not None:
        await install_recipe(rooms, guest, one.recipe, task, name=one.entry.name)
    return await rooms.guests.get(vmid)


async def grow(rooms: Rooms, by: Identity, one: Order, guest: Guest) -> None:
    """Grow the disk with the guest's system to what is wanted; a larger one stays."""
    present = values(one.kind, guest.config).get("disk")
    wanted = int(one.wanted["disk"])
    if present is None or int(present) >= wanted:
        return
    key, size = disk_key(guest.config), f"{wanted}M"
    resize = resize_volume if guest.kind == "lxc" else resize_disk
    await finished(rooms, resize(rooms, by, guest.vmid, key, size))


def container_options(rooms: Rooms, one: Order, name: str) -> ContainerOptions:
    """The options of a container that fulfils an order. Raises InvalidParameter."""
    given = _given(one, ContainerOptions)
    nic = propstring.parse(str(given.get("net0", "")), None)
    nic |= {"name": nic.get("name", "eth0"), **_network(one), **_addresses(rooms, one)}
    first = sum(key.startswith("mp") for key in given)
    mounts = {f"mp{first + index}": _mount_point(one, mount) for index, mount in enumerate(one.service.mounts)}
    return ContainerOptions.parse(
        {
            **given,
            **_common(one),
            "hostname": name,
            "rootfs": f"{one.storage}:{_gib(int(one.wanted['disk']))}",
            "net0": propstring.render(nic),
            "unprivileged": given.get("unprivileged", 1),
            **mounts,
        }
    )


def vm_options(rooms: Rooms, one: Order, name: str, image: str | None) -> VmOptions:
    """The options of a VM that fulfils an order, its system's disk from an image or, without one, empty."""
    given = _given(one, VmOptions)
    for key in ("efidisk0", "tpmstate0"):
        if key in given:
            given[key] = f"{one.storage}:{str(given[key]).partition(':')[2]}"
    key = next((key for key in ("scsi0", "virtio0", "sata0", "ide0") if key in given), "scsi0")
    drive = {"iothread": "1", "discard": "on"} if key not in given else propstring.parse(str(given[key]), "file")
    drive = {name: value for name, value in drive.items() if name not in ("file", "import-from", "size")}
    source = f"0,import-from={image}" if image is not None else _gib(int(one.wanted["disk"]))
    nic = propstring.parse(str(given.get("net0", "virtio")), "model")
    nic = {"model": nic.pop("model", "virtio"), **nic, **_network(one)}
    if str(given.get("ide2", ":cloudinit")).endswith(":cloudinit"):
        given["ide2"] = f"{one.storage}:cloudinit"
    given |= {"sshkeys": quote("\n".join(one.service.ssh_keys), safe="")} if one.service.ssh_keys else {}
    used = {int(key[4:]) for key in given if key.startswith("scsi") and key[4:].isdigit()} | {0}
    spare = [number for number in range(31) if number not in used]
    for index, mount in enumerate(one.service.mounts):
        given[f"scsi{spare[index]}"] = f"{one.storage}:{_mount_gib(mount)},serial={_serial(index)},discard=on"
    texts = {
        **given,
        **_common(one),
        "name": name,
        key: ",".join([f"{one.storage}:{source}", *(f"{name}={value}" for name, value in drive.items())]),
        "scsihw": given.get("scsihw", "virtio-scsi-single"),
        "net0": propstring.render(nic, "model"),
        "ipconfig0": propstring.render(_addresses(rooms, one)),
        "agent": given.get("agent", "1"),
    }
    return VmOptions.parse({key: str(value) for key, value in texts.items()})


async def _create(rooms: Rooms, by: Identity, making: Making) -> Upid:
    one, service = making.one, making.one.service
    if one.kind == "ct":
        credentials = Credentials(ssh_public_keys="\n".join(service.ssh_keys) or None)
        options = container_options(rooms, one, making.name)
        return await create_container(
            rooms, by, making.vmid, making.image, options, storage=one.storage, credentials=credentials
        )
    machine = vm_options(rooms, one, making.name, making.image)
    cloud = CloudInit(user=service.user_data) if service.user_data else None
    return await create_vm(rooms, by, making.vmid, machine, storage=one.storage, cloud=cloud)


def _given(one: Order, record: type[ContainerOptions] | type[VmOptions]) -> dict[str, Any]:
    """The options among the parameters of the advice's call."""
    return {key: value for key, value in one.advice.request.parameters.items() if record.knows(key)}


def _common(one: Order) -> dict[str, Scalar]:
    keys = ("cores", "memory", "tags", "onboot")
    return {key: one.wanted[key] for key in keys}


def _network(one: Order) -> dict[str, str]:
    tag = {"tag": str(one.wanted["tag"])} if one.wanted["tag"] else {}
    return {"bridge": str(one.wanted["bridge"]), **tag}


def _addresses(rooms: Rooms, one: Order) -> dict[str, str]:
    """`ip`, `gw` and `ip6` as both kinds write them; the NAT bridge is the way out for what has an address in it."""
    ip, gateway = str(one.wanted["ip"]), str(one.wanted["gateway"])
    if ip in ("dhcp", "manual"):
        return {"ip": ip, **({"ip6": "auto"} if ip == "dhcp" else {})}
    bridge = rooms.network.gateway(str(one.wanted["bridge"]))
    if not gateway and bridge is not None and ipaddress.ip_interface(ip).network == bridge.ipv4.network:
        gateway = str(bridge.ipv4.ip)
    return {"ip": ip, **({"gw": gateway} if gateway else {})}


def _mount_point(one: Order, mount: PlannedMount) -> str:
    volume = mount.source or f"{one.storage}:{_mount_gib(mount)}"
    return f"{volume},mp={mount.path}" + (",ro=1" if mount.read_only else "")


def _mount_gib(mount: PlannedMount) -> str:
    return _gib(-(-parse_size(mount.size or "0") // (128 * MIB)) * 128)


def _gib(mib: int) -> str:
    """GiB as the options write them: an eighth of one is exact in three digits."""
    return f"{mib / 1024:.3f}".rstrip("0").rstrip(".")


def _serial(index: int) -> str:
    return f"mount-{index}"


async def _resume(rooms: Rooms, by: Identity, guest: Guest) -> Upid:
    if guest.kind == "lxc":
        return await ct_power.resume(rooms, by, guest.vmid)
    return await vm_power.resume(rooms, by, guest.vmid)


async def _await_answer(rooms: Rooms, one: Order, guest: Guest, *, inner: bool) -> None:
    """Wait until the guest has an address, and its agent answers when commands are to be run in a VM (`inner`)."""
    emulated = guest.kind == "qemu" and rooms.vms.accelerator[0] == "tcg"
    seconds = _EMULATED_SECONDS if emulated else _SECONDS[guest.kind]
    until = time.monotonic() + seconds
    while True:
        state = rooms.engine(guest).state(guest.vmid)
        if state is GuestState.STOPPED:
            raise WrongState(f"{guest.title} does not run any more: it ended right after its start")
        if await _answers(rooms, one, guest, inner=inner):
            return
        if time.monotonic() > until:
            raise DeadlineExceeded(
                f"{guest.title} runs and did not answer within {seconds:.0f} seconds; it is kept: "
                f"look with `bastide console {guest.name}`"
            )
        await asyncio.sleep(_PAUSE)


async def _answers(rooms: Rooms, one: Order, guest: Guest, *, inner: bool) -> bool:
    if guest.kind == "qemu" and inner:
        return VmConfig.parse(guest.config).agent_enabled and await rooms.vms.agent_answers(guest.vmid)
    if one.wanted["ip"] == "manual":
        return True
    return bool(await addresses(rooms, guest))


async def _mount(rooms: Rooms, one: Order, guest: Guest, task: Task) -> None:
    """Make and mount the file systems of a VM's further disks."""
    for index, mount in enumerate(one.service.mounts):
        options = "ro" if mount.read_only else "defaults"
        await inside.script(
            rooms, guest, _MOUNT, mount.path, _serial(index), options, deadline=_MOUNT_SECONDS, line=task.log
        )
        task.log(f"{mount.path} is mounted")
