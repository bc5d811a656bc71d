"""The story of an advice: what this host is, what the catalog says of the service, and what the rules make of it."""

import asyncio
import contextlib
import shutil
from pathlib import Path, PurePath
from typing import Any

from bastide.architect.advice import advise
from bastide.base.errors import BastideError
from bastide.host import abilities, qemu_firmware, run, sampling
from bastide.host import facts as machine
from bastide.model.advice import Advice, HostFacts
from bastide.model.service import Service
from bastide.operations import images
from bastide.operations.architect.catalog import load
from bastide.operations.architect.compare import latest
from bastide.operations.rooms import Rooms

_USUAL_STORAGE = "local"


async def advise_service(rooms: Rooms, service: Service, *, catalog: Path | None = None) -> Advice:
    """Which kind of guest a service should be on this host, and why. `catalog` is a folder with more entries.

    Raises NotFound for a service that the catalog does not know, InvalidParameter for entries that cannot be read.
    """
    entry = (await load(rooms, catalog)).find(service.service) if service.service is not None else None
    return advise(service, entry, await facts(rooms), await latest(rooms))


async def facts(rooms: Rooms) -> HostFacts:
    """What a verdict depends on, as this host is now. Nothing is started."""
    return HostFacts(
        node=rooms.node,
        storage=await _storage(rooms),
        bridge=rooms.network.bridge,
        images=await _images(rooms),
        **await asyncio.to_thread(_machine),
    )


def _machine() -> dict[str, Any]:
    firmware = qemu_firmware.installed()
    return {
        "cores": machine.cpu_count(),
        "memory": sampling.memory().total,
        "kvm": abilities.kvm_refusal() is None,
        "nested": abilities.nested_virtualization(),
        "iommu": abilities.iommu_groups() > 0,
        "render": abilities.render_nodes(),
        "uefi": qemu_firmware.choose(firmware, efitype="4m", enrolled_keys=False) is not None,
        "secure_boot": qemu_firmware.choose(firmware, efitype="4m", enrolled_keys=True) is not None,
        "tpm": shutil.which("swtpm", path=run.PATH) is not None,
    }


async def _storage(rooms: Rooms) -> str:
    """Where guests' disks go: `local`, or the first storage that takes those of both kinds, or of either."""
    kept = {
        storage.config.storage: storage.capabilities.contents & {"rootdir", "images"}
        for storage in await rooms.storages.all()
        if rooms.storages.enabled(storage.config)
    }
    return max(kept, key=lambda name: (len(kept[name]), name == _USUAL_STORAGE), default=_USUAL_STORAGE)


async def _images(rooms: Rooms) -> dict[str, str]:
    """The newest image of each system that is known by name: `ct/debian-12` to its volume id.

    A CD whose file is called as a system (`local:iso/opnsense.iso`) is `iso/opnsense`.
    """
    found: dict[str, str] = {}
    for row in await images.list_images(rooms):
        if "distribution" in row and "release" in row:
            kind = "ct" if row["type"] == "lxc" else "vm"
            cloud = "-cloud" if kind == "ct" and row.get("variant") == "cloud" else ""
            found.setdefault(f"{kind}/{row['distribution']}-{row['release']}{cloud}", str(row["volid"]))
    for storage in await rooms.storages.all():
        if "iso" in storage.capabilities.contents and rooms.storages.enabled(storage.config):
            with contextlib.suppress(BastideError):  # a storage that does not answer hides only its own
                for volume in await storage.list("iso"):
                    found.setdefault(f"iso/{PurePath(volume.volid).stem.lower()}", volume.volid)
    return found
