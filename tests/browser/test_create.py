"""The wizards: a CT and a VM made from what the host has, and what is told of input that is wrong."""

import re

import pytest
from playwright.sync_api import expect

from framework.browser import Person
from framework.host import Host
from framework.patience import PATIENCE

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]


def next_step(person: Person, title: str) -> None:
    person.page.get_by_role("button", name="Next", exact=True).click()
    person.page.get_by_role("heading", level=2, name=title).wait_for()


def test_a_ct_is_made_by_keyboard_alone_and_its_console_takes_typing(person: Person, house: Host) -> None:
    template = house.template().rpartition("/")[2].partition(".")[0]
    vmid, page = house.new_vmid(), person.page
    person.open("/create/ct")
    page.get_by_label("VMID").fill(str(vmid))
    page.get_by_role("textbox", name="Hostname").focus()
    page.keyboard.type("made")
    for title in ("Template", "Disks", "CPU & memory", "Network", "Review"):
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", level=2, name=title)).to_be_focused()
        if title == "Template":  # other tests of this worker may have brought others
            expect(page.get_by_label("Template").first).to_have_value(re.compile(" on local"))  # the list is there
            page.get_by_label("Template").first.focus()
            page.keyboard.press("Control+a")
            page.keyboard.type(template)
            expect(page.get_by_role("option")).to_have_count(1)
            page.keyboard.press("ArrowDown")
            page.keyboard.press("Enter")
        if title != "Review":
            page.get_by_role("button", name="Next", exact=True).focus()
    page.get_by_role("button", name="Create", exact=True).press("Enter")
    page.wait_for_url(f"**/guests/{vmid}/summary")
    page.get_by_role("main").get_by_text("running", exact=True).first.wait_for()
    person.open(f"/guests/{vmid}/console")
    page.get_by_role("main").locator(".xterm").click()
    expect(page.locator(".xterm-rows")).to_contain_text("made login:", timeout=60_000 * PATIENCE)
    page.keyboard.type("root\n")
    expect(page.locator(".xterm-rows")).to_contain_text(re.compile("assword|root@made"))
    house.wait(house.delete(house.path(vmid), force=1))


def test_a_vm_is_made_and_its_screen_shows_its_firmware(person: Person, house: Host) -> None:
    vmid, page = house.new_vmid(), person.page
    person.open("/create/vm")
    page.get_by_label("VMID").fill(str(vmid))
    next_step(person, "OS")
    page.get_by_role("radio", name="Nothing yet").check()
    next_step(person, "Disks")
    page.get_by_label("Size in GiB").fill("1")
    next_step(person, "CPU & memory")
    page.get_by_label("Memory in MiB", exact=True).fill("128")
    page.get_by_role("button", name="Review", exact=True).click()
    page.get_by_role("button", name="Create", exact=True).click()
    page.wait_for_url(f"**/guests/{vmid}/summary")
    person.open(f"/guests/{vmid}/console")
    page.wait_for_function(
        """() => {
            const canvas = document.querySelector("main canvas");
            if (!canvas?.width) return false;
            const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
            return pixels.some((value, index) => index % 4 !== 3 && value > 100);
        }"""
    )
    house.wait(house.post(f"/nodes/{house.node}/qemu/{vmid}/status/stop"))
    house.wait(house.delete(f"/nodes/{house.node}/qemu/{vmid}"))


def test_wrong_input_is_told_beside_its_field_and_what_was_typed_stays(person: Person, house: Host) -> None:
    house.template()
    page = person.page
    person.open("/create/ct")
    hostname, password = page.get_by_role("textbox", name="Hostname"), page.get_by_label("Password of root")
    hostname.fill("not a_name")
    password.fill("1234")
    page.get_by_label("SSH public keys").fill("ssh-ed25519 AAAAC3NzaC1lZDI1\nNTE5AAAAIOMqq me@here")
    page.get_by_role("button", name="Next", exact=True).click()
    expect(hostname).to_be_focused()
    expect(hostname).to_have_accessible_description(re.compile("letters, digits and hyphens"))
    expect(password).to_have_accessible_description(re.compile("at least 5 characters"))
    expect(page.get_by_label("SSH public keys")).to_have_accessible_description(re.compile("line 1 is only a part"))
    hostname.fill("web")
    password.fill("12345")
    page.get_by_label("SSH public keys").fill("")
    next_step(person, "Template")
    next_step(person, "Disks")
    size = page.get_by_label("Size in GiB")
    size.fill("99999")
    page.get_by_role("button", name="Review", exact=True).click()
    page.get_by_role("button", name="Create", exact=True).click()
    # What only the host knows brings its step back.
    expect(page.get_by_role("combobox", name="Storage")).to_have_accessible_description(re.compile("do not fit"))
    page.get_by_role("button", name="Disks has a fault").wait_for()
    expect(size).to_have_value("99999")
    page.get_by_role("button", name="Back", exact=True).click()
    page.get_by_role("button", name="Back", exact=True).click()
    expect(hostname).to_have_value("web")
