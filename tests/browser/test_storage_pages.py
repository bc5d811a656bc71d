"""Storages, their volumes and pools: brought in, changed and removed from the page."""

import hashlib
import re
from pathlib import Path

import pytest
from playwright.sync_api import expect

from framework.browser import Person, Window
from framework.host import Host

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

_SIZE = 8 << 20


def iso(folder: Path) -> Path:
    """A file with the mark of an ISO image and some MB in it."""
    file = folder / "installer.iso"
    content = bytearray(_SIZE)
    content[32768:32775] = b"\x01CD001\x01"
    file.write_bytes(content)
    return file


def test_an_iso_image_is_uploaded_and_removed(person: Person, house: Host, tmp_path: Path) -> None:
    file, page = iso(tmp_path), person.page
    person.open("/storage/local")
    page.get_by_role("button", name="Upload", exact=True).click()
    dialog = page.get_by_role("dialog", name="Upload to local")
    dialog.locator("input[type=file]").set_input_files(file)
    expect(dialog.get_by_role("textbox", name="File name")).to_have_value("installer.iso")
    dialog.get_by_role("textbox", name="Checksum").fill("0" * 64)
    dialog.get_by_role("button", name="Upload", exact=True).click()
    field = dialog.get_by_role("textbox", name="Checksum")
    expect(field).to_have_accessible_description(re.compile("checksum mismatch"))
    expect(dialog.get_by_role("textbox", name="File name")).to_have_value("installer.iso")
    dialog.get_by_role("textbox", name="Checksum").fill(hashlib.sha256(file.read_bytes()).hexdigest())
    assert person.axe() == []
    dialog.get_by_role("button", name="Upload", exact=True).click()
    row = page.get_by_role("row").filter(has_text="iso/installer.iso")
    expect(row).to_contain_text("8 MiB")
    page.get_by_role("button", name="Upload", exact=True).click()
    dialog.locator("input[type=file]").set_input_files(file)
    name = dialog.get_by_role("textbox", name="File name")
    expect(name).to_have_accessible_description("installer.iso is there already")
    expect(dialog.get_by_role("button", name="Upload", exact=True)).to_be_disabled()
    dialog.get_by_role("button", name="Cancel", exact=True).click()
    row.get_by_role("button", name="More for local:iso/installer.iso").click()
    page.get_by_role("menuitem", name="Remove", exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name="Remove local:iso/installer.iso", exact=True).click()
    row.wait_for(state="detached")
    assert house.get(f"/nodes/{house.node}/storage/local/content", content="iso") == []


def test_a_storage_is_added_changed_and_removed(person: Person, house: Host, tmp_path: Path) -> None:
    page = person.page
    person.open("/storage")
    page.get_by_role("button", name="Add storage", exact=True).click()
    dialog = page.get_by_role("dialog", name="Add storage")
    dialog.get_by_role("textbox", name="ID").fill("x")
    dialog.get_by_role("textbox", name="Folder").fill(str(tmp_path / "more"))
    dialog.get_by_role("button", name="Add", exact=True).click()
    expect(dialog.get_by_role("textbox", name="ID")).to_have_accessible_description(re.compile("2 to 100 characters"))
    dialog.get_by_role("textbox", name="ID").fill("more")
    dialog.get_by_role("button", name="Add", exact=True).click()
    page.get_by_role("main").get_by_role("link", name="more").click()
    page.get_by_role("button", name="Edit", exact=True).click()
    dialog = page.get_by_role("dialog", name="Edit more")
    dialog.get_by_role("button", name="More options").click()
    expect(dialog.get_by_role("switch", name="Make the folder when it lacks")).to_be_checked()
    dialog.get_by_role("switch", name="Disabled").press("Space")
    dialog.get_by_role("button", name="Save", exact=True).click()
    page.get_by_role("main").get_by_text("It is disabled.").wait_for()
    assert house.get("/storage/more")["disable"] == 1
    page.get_by_role("button", name="Remove storage more", exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name="Remove storage more", exact=True).click()
    page.wait_for_url("**/storage")
    page.get_by_role("main").get_by_role("link", name="more").wait_for(state="detached")
    assert (tmp_path / "more").is_dir(), "only the configuration is removed"


def test_disks_say_what_the_host_has_no_tools_for(person: Person) -> None:
    page = person.page
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if request.url.endswith("/disks/zfs") else None)
    page.route("**/disks/zfs", lambda route: route.fulfill(
        status=500, json={"data": None, "message": "zpool is not installed on this host\n"}
    ))  # fmt: skip
    person.open("/disks")
    page.get_by_role("main").get_by_text("zpool is not installed on this host").wait_for()
    page.get_by_role("link", name="Storage", exact=True).click()
    page.get_by_role("heading", level=1, name="Storage").wait_for()
    page.get_by_role("link", name="Disks", exact=True).click()
    page.get_by_role("main").get_by_text("zpool is not installed on this host").wait_for()
    assert len(asked) == 1


def test_a_pool_is_made_filled_emptied_and_removed(person: Person, house: Host) -> None:
    vmid, page = house.create_vm(), person.page
    person.open("/pools")
    page.get_by_role("button", name="Add pool", exact=True).click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("textbox", name="Name").fill("prod")
    dialog.get_by_role("button", name="Add pool", exact=True).click()
    pool = page.get_by_role("region", name="prod")
    pool.get_by_role("button", name="Add members to prod").click()
    dialog.get_by_role("combobox", name="Guests").click()
    page.get_by_role("option", name=str(vmid)).click()
    page.keyboard.press("Escape")
    dialog.get_by_role("button", name="Add", exact=True).click()
    member = pool.get_by_role("row").filter(has_text=str(vmid))
    expect(pool.get_by_role("button", name="Remove pool prod", exact=True)).to_be_disabled()
    member.get_by_role("button", name="Take").first.click()
    pool.get_by_text("No members.").wait_for()
    pool.get_by_role("button", name="Remove pool prod", exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name="Remove pool prod", exact=True).click()
    pool.wait_for(state="detached")
    assert house.get("/pools") == []
    house.wait(house.delete(house.path(vmid)))


def test_a_phone_shows_all_of_it_without_scrolling_sideways(window: Window, house: Host) -> None:
    with window.person(house, phone=True, scheme="dark") as person:
        for path in ("/create/ct", "/create/vm", "/storage", "/storage/local", "/images", "/disks", "/pools"):
            person.open(path)
            person.page.get_by_label("Loading").first.wait_for(state="detached")
            assert (path, person.sideways()) == (path, 0)
