"""Loop devices that stand for disks of the machine: only those of the test's own are ever listed."""

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bastide.host import block_devices

SIZE = 320 << 20


@contextlib.contextmanager
def loop_disks(folder: Path, patch: pytest.MonkeyPatch, count: int = 1) -> Iterator[list[str]]:
    """That many empty disks (`/dev/loop7`); while entered, the machine has no others."""
    made: list[str] = []
    patch.setattr(block_devices, "is_disk", lambda row: row["kname"] in made)
    try:
        for number in range(count):
            file = folder / f"disk{number}.img"
            with file.open("wb") as image:
                image.truncate(SIZE)
            made.append(_run("losetup", "--find", "--show", str(file)).strip())
            _run("partx", "--delete", "--", made[-1], check=False)  # the device's last user may have left some
        yield made
    finally:
        for device in made:
            _release(device)


def _release(device: str) -> None:
    for part in (*sorted(Path("/dev").glob(f"{Path(device).name}p*")), Path(device)):
        while _run("findmnt", "--noheadings", "--source", str(part), check=False).strip():
            _run("umount", "--", str(part))
    _run("partx", "--delete", "--", device, check=False)
    _run("losetup", "--detach", device)


def _run(*argv: str, check: bool = True) -> str:
    return subprocess.run(argv, check=check, capture_output=True, text=True).stdout
