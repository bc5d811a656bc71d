"""What the architect knows of a host: this machine, its storages, its images."""

import json
import os

import pytest

from bastide.host import abilities
from bastide.operations.architect.advise import facts
from framework.rooms import fake_rooms


@pytest.mark.anyio
async def test_facts_are_this_machines(tmp_path) -> None:
    rooms = await fake_rooms(tmp_path)
    found = await facts(rooms)
    assert (found.node, found.bridge, found.storage) == ("pve", "vmbr0", "local")
    assert found.cores == os.cpu_count()
    assert found.memory == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert found.kvm == (abilities.kvm_refusal() is None)
    assert found.images == {}  # the template has no manifest: nothing says what it is


@pytest.mark.anyio
async def test_the_newest_image_of_a_system_is_meant_and_cloud_templates_by_their_name(tmp_path) -> None:
    rooms = await fake_rooms(tmp_path)
    folder = rooms.layout.local_storage / "template/cache"
    for age, name, variant in ((300, "old", "standard"), (200, "new", "standard"), (100, "ci", "cloud")):
        file = folder / f"{name}.tar.gz"
        file.write_bytes(b"x")
        os.utime(file, (2_000_000_000 - age, 2_000_000_000 - age))
        manifest = {"distribution": "debian", "release": "12", "variant": variant}
        (folder / f"{name}.tar.gz.manifest.json").write_text(json.dumps(manifest))
    cds = rooms.layout.local_storage / "template/iso"
    cds.mkdir(parents=True, exist_ok=True)
    (cds / "opnsense.iso").write_bytes(b"x")
    assert (await facts(rooms)).images == {
        "iso/opnsense": "local:iso/opnsense.iso",
        "ct/debian-12": "local:vztmpl/new.tar.gz",
        "ct/debian-12-cloud": "local:vztmpl/ci.tar.gz",
    }


@pytest.mark.parametrize(("text", "able"), [("Y\n", True), ("1\n", True), ("N\n", False), ("0\n", False)])
def test_nesting_is_what_the_kvm_module_says(tmp_path, text, able) -> None:
    (tmp_path / "kvm_amd/parameters").mkdir(parents=True)
    (tmp_path / "kvm_amd/parameters/nested").write_text(text)
    assert abilities.nested_virtualization(tmp_path) is able
    assert not abilities.nested_virtualization(tmp_path / "none")


def test_render_nodes_are_found_in_their_order(tmp_path) -> None:
    for name in ("card0", "renderD129", "renderD128"):
        (tmp_path / name).touch()
    assert abilities.render_nodes(tmp_path) == (str(tmp_path / "renderD128"), str(tmp_path / "renderD129"))
    assert abilities.render_nodes(tmp_path / "none") == ()
