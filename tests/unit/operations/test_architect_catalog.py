"""The catalog that a host has: shipped entries, its own, and those of a folder."""

import os
from pathlib import Path

import pytest

from bastide.base.errors import InvalidParameter, NotFound
from bastide.host import datafiles
from bastide.host.datafiles import read_texts
from bastide.operations.architect import catalog
from framework.rooms import fake_rooms

pytestmark = pytest.mark.anyio

ENTRY = """\
name: {name}
title: {title}
summary: Ours
category: web
size:
  minimum: {{cores: 1, memory: 256M, disk: 2G}}
  usual: {{cores: 1, memory: 512M, disk: 4G}}
source: own estimate
"""


def write(folder: Path, name: str, title: str = "Ours") -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.yaml"
    path.write_text(ENTRY.format(name=name, title=title))
    return path


async def test_a_host_without_entries_of_its_own_has_the_shipped_ones(tmp_path: Path) -> None:
    rooms = await fake_rooms(tmp_path)
    found = await catalog.load(rooms)
    assert len(found) >= 120
    assert await catalog.load(rooms) is found  # read once


async def test_entries_of_the_host_and_of_a_folder_lie_above(tmp_path: Path) -> None:
    rooms = await fake_rooms(tmp_path / "host")
    shipped = await catalog.load(rooms)
    own = catalog.folder(rooms.layout)
    write(own, "jellyfin", "Ours")
    path = write(own, "intranet", "Intranet")
    extra = tmp_path / "extra"
    write(extra, "intranet", "Extra")
    (extra / "README.md").write_text("no entry")
    (extra / ".hidden.yaml").write_text("no entry either")

    found = await catalog.load(rooms)
    assert (found.find("jellyfin").title, found.find("intranet").title) == ("Ours", "Intranet")
    assert len(found) == len(shipped) + 1
    assert (await catalog.load(rooms, extra)).find("intranet").title == "Extra"

    path.write_text(ENTRY.format(name="intranet", title="Changed"))  # seen without a restart
    assert (await catalog.load(rooms)).find("intranet").title == "Changed"
    path.unlink()
    with pytest.raises(NotFound):
        (await catalog.load(rooms)).find("intranet")
    assert shipped.find("jellyfin").title == "Jellyfin"


async def test_a_faulty_entry_names_its_file_and_line_and_the_next_call_works(tmp_path: Path) -> None:
    rooms = await fake_rooms(tmp_path)
    path = write(catalog.folder(rooms.layout), "intranet")
    path.write_text(path.read_text() + "memory: 4G\n")
    with pytest.raises(InvalidParameter) as caught:
        await catalog.load(rooms)
    assert caught.value.errors == {f"{path}: line 9: memory": "this key is not known"}
    write(catalog.folder(rooms.layout), "intranet")
    assert (await catalog.load(rooms)).find("intranet").name == "intranet"


async def test_two_entries_of_one_name_are_told(tmp_path: Path) -> None:
    rooms = await fake_rooms(tmp_path)
    write(catalog.folder(rooms.layout), "intranet")
    (catalog.folder(rooms.layout) / "again.yaml").write_text(ENTRY.format(name="intranet", title="Again"))
    with pytest.raises(InvalidParameter, match="intranet"):
        await catalog.load(rooms)


async def test_a_folder_that_is_none_is_told(tmp_path: Path) -> None:
    rooms = await fake_rooms(tmp_path)
    for place in (tmp_path / "none", write(tmp_path / "f", "a")):
        with pytest.raises(NotFound, match="no such folder"):
            await catalog.load(rooms, place)


def test_nothing_outside_of_the_folder_is_read(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("name: root-password\n")
    folder = tmp_path / "folder"
    folder.mkdir()
    for target in (secret, "../secret", "/etc/shadow", tmp_path / "gone"):
        link = folder / "a.yaml"
        link.symlink_to(target)
        with pytest.raises(InvalidParameter) as caught:
            read_texts(folder, ".yaml")
        assert "is a link" in str(caught.value)
        assert "root-password" not in str(caught.value)
        link.unlink()


def test_what_is_no_small_text_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    os.mkfifo(path)  # reading one would wait for its other end
    with pytest.raises(InvalidParameter, match="not a plain file"):
        read_texts(tmp_path, ".yaml")
    path.unlink()
    path.mkdir()
    with pytest.raises(InvalidParameter, match="not a plain file"):
        read_texts(tmp_path, ".yaml")
    path.rmdir()
    path.write_bytes(b"a: 1\nb: \xff\n")
    with pytest.raises(InvalidParameter, match="line 2: is not UTF-8"):
        read_texts(tmp_path, ".yaml")
    path.write_bytes(b"x" * 11)
    with pytest.raises(InvalidParameter, match="larger"):
        read_texts(tmp_path, ".yaml", limit=10)
    assert read_texts(tmp_path, ".yaml", limit=11) == {"a.yaml": "x" * 11}


def test_a_folder_of_too_many_files_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datafiles, "COUNT_LIMIT", 2)
    for name in "abc":
        (tmp_path / f"{name}.yaml").touch()
    with pytest.raises(InvalidParameter, match="more than 2 files"):
        read_texts(tmp_path, ".yaml")
