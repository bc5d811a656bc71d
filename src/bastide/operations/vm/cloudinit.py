"""A VM's configuration drive: what cloud-init in the guest is told."""

import asyncio
import json
from dataclasses import asdict, dataclass
from typing import Literal
from urllib.parse import unquote

from bastide.base.errors import InvalidParameter, NotFound, WrongState
from bastide.base.ids import VolumeId
from bastide.guest import cloudinit as drive
from bastide.host.resolver import host_nameservers, host_searchdomain
from bastide.model.access import Identity
from bastide.model.guest import Guest, GuestState
from bastide.model.record import Scalar
from bastide.model.types import split_list
from bastide.model.vm import VmConfig
from bastide.operations.pending import pending_rows
from bastide.operations.rooms import Rooms
from bastide.operations.vm.plan import vm_plan
from bastide.operations.vm.volumes import cloudinit_drive

Part = Literal["user", "network", "meta"]

KEYS = frozenset({"cicustom", "cipassword", "citype", "ciupgrade", "ciuser", "nameserver", "searchdomain", "sshkeys"})
"""The options that end up on the drive, beside `name`, `ipconfig[n]` and `net[n]`."""

_SNIPPET_LIMIT = 512 * 1024


@dataclass(frozen=True, slots=True)
class CloudInit:
    """Full texts for cloud-init that take the place of what the options make; None leaves that part to the options."""

    user: str | None = None
    network: str | None = None
    vendor: str | None = None
    meta: str | None = None


async def get_data(rooms: Rooms, vmid: int) -> CloudInit:
    """The texts that were set for a guest."""
    entry = await rooms.store.get(f"cloudinit/{vmid}")
    return CloudInit() if entry is None else CloudInit(**json.loads(entry.value))


async def set_data(rooms: Rooms, vmid: int, data: CloudInit) -> None:
    """Set the texts for a guest; they are read at its next boot with a new configuration drive. Raises Conflict."""
    key = f"cloudinit/{vmid}"
    if data == CloudInit():
        await rooms.store.delete(key)
        return
    entry = await rooms.store.get(key)
    await rooms.store.put(key, json.dumps(asdict(data)), 0 if entry is None else entry.revision)


async def forget(rooms: Rooms, vmid: int) -> None:
    """Drop the texts of a guest that is gone."""
    await rooms.store.delete(f"cloudinit/{vmid}")


async def write_drive(rooms: Rooms, guest: Guest) -> bool:
    """Write the configuration drive anew; whether the VM has one. Raises InvalidParameter for a faulty snippet."""
    config = VmConfig.parse(guest.config)
    found = cloudinit_drive(config)
    if found is None:
        return False
    form = _form(config)
    seed = await _seed(rooms, guest, config)
    image = await asyncio.to_thread(lambda: drive.iso(drive.documents(seed, form), form))
    storage = await rooms.storages.disks(found[1].storage)
    await storage.write_file(found[1].name, image)
    return True


async def regenerate(rooms: Rooms, by: Identity, vmid: int) -> None:
    """Write the drive anew with what waits for it; a running guest finds the new medium in its drive.

    Raises WrongState for a VM without a drive.
    """
    async with rooms.locks.hold(vmid, f"{by}:cloudinit", "cloudinit"):
        guest = await rooms.guests.get(vmid, "qemu")
        if cloudinit_drive(VmConfig.parse(guest.config)) is None:
            raise WrongState(f"VM {vmid} has no cloud-init drive: add one, such as --ide2 local:cloudinit")
        await insert_drive(rooms, guest)


async def insert_drive(rooms: Rooms, guest: Guest) -> None:
    """Write the drive and, where the guest runs, change the medium in its sight."""
    found = cloudinit_drive(VmConfig.parse(guest.config))
    if await write_drive(rooms, guest) and found and rooms.vms.state(guest.vmid) is not GuestState.STOPPED:
        await rooms.vms.change_medium(await vm_plan(rooms, guest), found[0])


async def dump(rooms: Rooms, vmid: int, part: Part) -> str:
    """The text that the guest is or will be told: user data, network configuration or meta data."""
    guest = await rooms.guests.get(vmid, "qemu")
    config = VmConfig.parse(guest.wanted_config)
    form = _form(config)
    documents = drive.documents(await _seed(rooms, guest, config), form)
    names = {"user": ("user-data", "user_data"), "network": ("network-config", "network_data.json")}
    wanted = names.get(part, ("meta-data", "meta_data.json"))
    return next(text for name, text in documents.items() if name.rpartition("/")[2] in wanted)


async def rows(rooms: Rooms, vmid: int) -> list[dict[str, Scalar]]:
    """Rows of {key, value, pending, delete}: the cloud-init options, and what the drive does not hold yet."""
    guest = await rooms.guests.get(vmid, "qemu")
    return [row for row in pending_rows(guest) if is_cloudinit_key(str(row["key"]))]


def is_cloudinit_key(key: str) -> bool:
    """Whether an option ends up on the configuration drive and nowhere else."""
    return key in KEYS or key.startswith("ipconfig")


def _form(config: VmConfig) -> drive.Form:
    kind = config.citype or ("configdrive2" if config.is_windows else "nocloud")
    if kind == "opennebula":
        raise InvalidParameter({"citype": "opennebula is not built: use nocloud or configdrive2"})
    return "configdrive2" if kind == "configdrive2" else "nocloud"


async def _seed(rooms: Rooms, guest: Guest, config: VmConfig) -> drive.Seed:
    data = await get_data(rooms, guest.vmid)
    custom = {part: await _custom(rooms, config, part) for part in ("user", "network", "vendor", "meta")}
    hostname, _, domain = (config.name or f"vm{guest.vmid}").partition(".")
    nics = [_nic(config, index) for index in sorted(config.net) if config.net[index].macaddr is not None]
    nameservers = [name for name in split_list(config.nameserver or "") if name != "host"]
    static = any("/" in (nic.ip or "") or "/" in (nic.ip6 or "") for nic in nics)
    return drive.Seed(
        hostname=hostname,
        fqdn=config.name if domain else None,
        user=config.ciuser,
        password_hash=config.cipassword,
        ssh_keys=[line for line in unquote(config.sshkeys or "").splitlines() if line.strip()],
        upgrade=config.ciupgrade is not False,
        nics=nics,
        nameservers=nameservers or (_nameservers(rooms, config) if static else []),
        searchdomains=split_list(config.searchdomain or "") or _searchdomains(rooms, config, static=static),
        user_data=data.user or custom["user"],
        network_data=data.network or custom["network"],
        vendor_data=data.vendor or custom["vendor"],
        meta_data=data.meta or custom["meta"],
    )


def _nic(config: VmConfig, index: int) -> drive.SeedNic:
    addresses = config.ipconfig.get(index)
    hwaddr = config.net[index].macaddr or ""
    if addresses is None:
        return drive.SeedNic(index, hwaddr)
    return drive.SeedNic(index, hwaddr, addresses.ip, addresses.gw, addresses.ip6, addresses.gw6)


def _nameservers(rooms: Rooms, config: VmConfig) -> list[str]:
    """For a guest with fixed addresses, whom no DHCP tells: the managed bridge's name server, or the host's."""
    for nic in config.net.values():
        bridge = rooms.network.gateway(nic.bridge) if nic.bridge else None
        if bridge is not None:
            return [str(bridge.ipv4.ip)]
    return host_nameservers()


def _searchdomains(rooms: Rooms, config: VmConfig, *, static: bool) -> list[str]:
    for nic in config.net.values():
        bridge = rooms.network.gateway(nic.bridge) if nic.bridge else None
        if bridge is not None:
            return [bridge.domain]
    domain = host_searchdomain()
    return [domain] if static and domain else []


async def _custom(rooms: Rooms, config: VmConfig, part: str) -> str | None:
    """The text of a snippet that `cicustom` names."""
    volume = getattr(config.cicustom, part, None) if config.cicustom is not None else None
    if volume is None:
        return None
    volid = VolumeId.parse(volume)
    storage = await rooms.storages.files(volid.storage, "snippets")
    path = await storage.file_path(volid.name)
    try:
        text = (await asyncio.to_thread(path.read_bytes))[: _SNIPPET_LIMIT + 1].decode()
    except FileNotFoundError:
        raise NotFound(f"volume '{volid}' does not exist") from None
    except UnicodeDecodeError:
        raise InvalidParameter({"cicustom": f"'{volid}' is not text in UTF-8"}) from None
    if len(text) > _SNIPPET_LIMIT:
        raise InvalidParameter({"cicustom": f"'{volid}' is longer than {_SNIPPET_LIMIT} bytes"})
    return text
