"""Every place of the page: for everybody's eyes, for keys alone, and for somebody who may do little."""

import pytest
from playwright.sync_api import expect

from browser.places import PLACES, guest_places
from framework import browser
from framework.browser import DESK, PHONE, Person, Window
from framework.host import Host

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]


def test_every_place_can_be_seen_and_heard_by_everybody(person: Person) -> None:
    """axe finds nothing serious, light, dark and on a phone, where nothing is wider than the window."""
    host, page = person.host, person.page
    vmid = host.create(hostname="looked-at", start=True)
    faults: list[str] = []
    page.emulate_media(reduced_motion="reduce")  # colours that are on their way are neither the old nor the new ones
    try:
        for path, heading in {**PLACES, **guest_places(vmid, "looked-at")}.items():
            page.emulate_media(color_scheme="light")
            person.go(path, heading)
            found = person.axe()
            page.emulate_media(color_scheme="dark")
            found += [f"dark: {fault}" for fault in person.axe(colours=True)]
            page.set_viewport_size(PHONE)
            if person.sideways() > 0:
                found.append(f"phone: {person.sideways()} pixels too wide")
            page.set_viewport_size(DESK)
            faults += [f"{path}: {fault}" for fault in found]
    finally:
        host.act(vmid, "stop")
        host.wait(host.delete(host.path(vmid)))
    assert faults == [], "\n".join(faults)


def test_who_may_look_at_one_guest_sees_that_one_and_honest_refusals(window: Window, house: Host) -> None:
    seen, hidden = house.create(hostname="seen"), house.create(hostname="outofsight")
    try:
        house.post("/access/roles", roleid="Look", privs="VM.Audit")
        browser.admit(house, "eve@pve", role="Look", path=f"/vms/{seen}")
        with window.person(house, "eve@pve") as eve:
            eve.page.get_by_role("treeitem", name=f"CT {seen} seen, stopped").wait_for()
            for path, heading in {**PLACES, **guest_places(seen, "seen")}.items():
                if path not in ("/storage/local", "/architect/catalog/nginx"):  # not hers, and anybody's
                    eve.go(path, heading)
                    assert eve.page.get_by_text("outofsight").count() == 0, path
                    assert eve.page.get_by_text("The page met an error").count() == 0, path
            eve.go(f"/guests/{hidden}/summary", f"No guest {hidden}")
            eve.go(f"/guests/{seen}/summary", "seen")
            start = eve.page.get_by_role("button", name="Start seen", exact=True)
            expect(start).to_have_attribute("aria-disabled", "true")
            start.hover()
            expect(eve.page.get_by_role("tooltip")).to_contain_text("VM.PowerMgmt")
    finally:
        for vmid in (seen, hidden):
            house.wait(house.delete(house.path(vmid)))
