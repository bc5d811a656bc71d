"""Looking up mounts: the same answers as reading the whole table, one line parsed."""

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bastide.host import mount_table
from bastide.host.filesystems import MountEntry, mount_at, mount_over, mounts, mounts_within, parse_mountinfo

_NAMES = st.sampled_from(["a", "b", "ab", "a b", "a\\b", "a\x0cb", "ä"])
_PLACES = st.lists(_NAMES, max_size=3).map(lambda names: "/" + "/".join(names))


def _table(places: list[str]) -> str:
    """Mountinfo as proc(5) has it, a line a mount point; the kernel writes four characters in octal."""
    lines = []
    for number, place in enumerate(places):
        written = place.replace("\\", "\\134").replace(" ", "\\040")
        lines.append(f"{number} 1 0:{number} / {written} rw,nosuid shared:1 - ext4 /dev/x{number} rw\n")
    return "".join(lines)


def _over(entries: list[MountEntry], path: Path) -> MountEntry | None:
    found = [entry for entry in entries if path.is_relative_to(entry.target)]
    return max(enumerate(found), key=lambda item: (len(item[1].target.parts), item[0]), default=(0, None))[1]


@given(st.lists(_PLACES, max_size=8), _PLACES)
def test_looked_up_as_in_the_whole_table(places: list[str], asked: str) -> None:
    text, path = _table(places), Path("/nowhere-here" + asked.rstrip("/"))
    text = text.replace(" / /", " / /nowhere-here/").replace("/nowhere-here/ rw", "/nowhere-here rw")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mount_table, "_read_anew", lambda _descriptor: text.encode())
        patch.setattr(mount_table, "_TABLE", mount_table.MountTable())
        entries = parse_mountinfo(text)
        assert len(entries) == len(places)
        assert mounts() == entries
        assert mount_at(path) == next((entry for entry in reversed(entries) if entry.target == path), None)
        assert mount_over(path) == _over(entries, path)
        assert mounts_within(path) == [entry.target for entry in entries if entry.target.is_relative_to(path)]


def test_a_neighbour_with_a_longer_name_is_not_within(monkeypatch: pytest.MonkeyPatch) -> None:
    table = _table(["/", "/nowhere/a", "/nowhere/ab"]).encode()
    monkeypatch.setattr(mount_table, "_read_anew", lambda _descriptor: table)
    monkeypatch.setattr(mount_table, "_TABLE", mount_table.MountTable())
    entry = mount_over(Path("/nowhere/abc"))
    assert entry is not None
    assert entry.target == Path("/")
    assert mounts_within(Path("/nowhere/a")) == [Path("/nowhere/a")]
    assert len(mounts_within(Path("/"))) == 3


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
def test_what_is_mounted_and_unmounted_is_seen_at_once(tmp_path: Path) -> None:
    for number in range(20):
        assert mount_at(tmp_path) is None
        subprocess.run(["mount", "-t", "tmpfs", f"test{number}", str(tmp_path)], check=True)
        try:
            entry = mount_at(tmp_path)
            assert entry is not None
            assert entry.source == f"test{number}"
            subprocess.run(["mount", "-o", "remount,ro", str(tmp_path)], check=True)
            entry = mount_over(tmp_path / "x")
            assert entry is not None
            assert "ro" in entry.options
        finally:
            subprocess.run(["umount", str(tmp_path)], check=True)
