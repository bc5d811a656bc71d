"""What is written beside the state, and has to be there once the state tells of it, survives a loss of power."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from bastide.access.keys import SigningKeys
from bastide.host import filesystems
from bastide.storage import sidecars
from framework.power import Recorded, losses

pytestmark = pytest.mark.system

Files = dict[str, bytes]


def _replaced(folder: Path) -> None:
    filesystems.replace_text(folder / "secret", "first" * 300)
    filesystems.replace_text(folder / "secret", "second" * 300)


def _beside(folder: Path) -> None:
    sidecars.write(folder / "vm-100-disk-0.qcow2", ".base", "base:0123456789abcdef\n")


def _published(folder: Path) -> None:
    (folder / "partial").write_bytes(b"image" * 10_000)
    filesystems.publish_file(folder / "partial", folder / "whole")


def _keys(folder: Path) -> None:
    SigningKeys(folder / "keys").sign("ticket", "text")


@pytest.mark.parametrize("write", [_replaced, _beside, _published, _keys])
def test_what_was_written_survives_a_loss_of_power(write: Callable[[Path], None], tmp_path: Path) -> None:
    with Recorded.mounted(tmp_path) as place:
        write(place.folder)
        wanted: Files = {path.name: path.read_bytes() for path in place.behind.iterdir()}
        acts = [act for _, act in place.trace()]
    assert wanted
    ends = 0
    for number, disk in losses(acts, random.Random(1), parts=20):
        found = {path.lstrip("/"): bytes(disk.contents.get(file, b"")) for path, file in disk.names.items()}
        for name in wanted:
            assert name not in found or len(found[name]) > 0, "a name shows no half of a file"
        if number == len(acts):
            ends += 1
            assert wanted.items() <= found.items()
    assert ends
