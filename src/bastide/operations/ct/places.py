"""The folders in a container's volumes that others of its volumes are mounted at.

LXC makes those that lack when the container starts. Whoever reads or packs a container that never ran, or one whose
tmpfs hides such a folder, needs them too.
"""

import asyncio
from collections.abc import Iterator, Mapping
from pathlib import Path

from bastide.base.ids import VolumeId
from bastide.host.rootdir import RootDir
from bastide.model.container import ContainerConfig
from bastide.model.guest import Guest
from bastide.operations import snapshots
from bastide.operations.ct.plan import activate
from bastide.operations.rooms import Rooms

ROOT_PLACE = "/"


def volumes_by_place(guest: Guest) -> dict[str, VolumeId]:
    """{place in the guest: volume} of all volumes of its own that are mounted, the root among them."""
    owned = snapshots.volumes_in(guest.config, guest.vmid)
    mounts = {f"mp{index}": mount.mp for index, mount in sorted(ContainerConfig.parse(guest.config).mp.items())}
    places = {"rootfs": ROOT_PLACE, **mounts}
    return {place: owned[key] for key, place in places.items() if key in owned}


async def opened(rooms: Rooms, guest: Guest, volumes: Mapping[str, VolumeId]) -> dict[str, Path]:
    """Activate volumes by their places, the root among them; {place: folder}.

    The folders are there that they are mounted at, but for those of a template, which nobody may write to.
    """
    folders = {place: await activate(rooms, str(volid), guest.first_id) for place, volid in volumes.items()}
    if not guest.is_template:
        await asyncio.to_thread(_make, folders)
    return folders


async def behind_links(folders: Mapping[str, Path]) -> list[str]:
    """The places that a link of the guest's leads to, of volumes in folders by their places."""
    return await asyncio.to_thread(
        lambda: [place for place, above, inside in _inside(folders) if _is_linked(above, inside)]
    )


def _make(folders: Mapping[str, Path]) -> None:
    for _, above, inside in _inside(folders):
        with RootDir(above) as root:
            if not root.is_dir(inside):
                root.mkdir(inside)


def _is_linked(above: Path, inside: str) -> bool:
    parts = inside.split("/")
    with RootDir(above) as root:
        return any(root.readlink("/".join(parts[:count])) is not None for count in range(1, len(parts) + 1))


def _inside(folders: Mapping[str, Path]) -> Iterator[tuple[str, Path, str]]:
    """Each place, the folder of the volume that it is in, and where in that one."""
    for place in sorted(set(folders) - {ROOT_PLACE}):
        above = max((other for other in folders if other != place and place.startswith(_within(other))), key=len)
        yield place, folders[above], place.removeprefix(_within(above))


def _within(place: str) -> str:
    return f"{place.rstrip('/')}/"
