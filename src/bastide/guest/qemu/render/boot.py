"""What the VM boots from: the place of each device in the firmware's list (QEMU's `bootindex`).

Source: qm.conf(5), `boot` and `bootdisk`.
"""

from collections.abc import Iterator

from bastide.guest.vm_protocol import VmPlan


def boot_places(plan: VmPlan) -> dict[str, int]:
    """{key of a drive, network card or passed device: its place, from 1}; what is not in it is not booted from."""
    places: dict[str, int] = {}
    for key in _order(plan):
        places.setdefault(key, len(places) + 1)
    return places


def _order(plan: VmPlan) -> Iterator[str]:
    config = plan.config
    if config.boot is not None and config.boot.order is not None:
        yield from (key for key in config.boot.order.split(";") if key)
        return
    disks = [key for key, drive in config.drives() if not drive.is_cdrom]
    nics = [f"net{index}" for index in sorted(config.net)]
    letters = config.boot.legacy if config.boot is not None else None
    for letter in letters or "cdn":
        if letter == "c":
            yield from [config.bootdisk] if config.bootdisk is not None else disks[:1]
        elif letter == "d":
            yield from (key for key, drive in config.drives() if drive.is_cdrom)
        elif letter == "n":
            yield from nics if letters else nics[:1]
