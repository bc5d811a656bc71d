"""A guest's snapshots at the page: what was in a file comes back, and the tree says how they came of each other."""

import pytest
from playwright.sync_api import expect

from framework.browser import Person
from framework.host import Host

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]


def test_a_file_is_as_it_was_after_a_rollback(person: Person, house: Host) -> None:
    vmid = house.create(start=True, net0=None, hostname="kept")
    house.execute(vmid, "sh", "-c", "echo then > /root/file")
    page = person.page
    person.open(f"/guests/{vmid}/snapshots")
    page.get_by_role("button", name="Take snapshot").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name").fill("1st")
    dialog.get_by_role("button", name="Take snapshot", exact=True).click()
    expect(dialog.get_by_label("Name")).to_have_attribute("aria-invalid", "true")
    dialog.get_by_label("Name").fill("first")
    dialog.get_by_label("Description").fill("<img src=x onerror=alert(1)>")
    dialog.get_by_role("button", name="Take snapshot", exact=True).click()
    row = page.get_by_role("row").filter(has_text="first").first
    expect(row).to_contain_text("<img src=x onerror=alert(1)>")

    house.execute(vmid, "sh", "-c", "echo now > /root/file")
    page.get_by_role("button", name="Actions of snapshot first").click()
    page.get_by_role("menuitem", name="Roll back and start").click()
    sure = page.get_by_role("dialog")
    expect(sure).to_contain_text("It runs: it is stopped for it, at once.")
    sure.get_by_role("button", name="Roll kept back to first and start it").click()
    page.get_by_text("Roll kept back to first and start it: done").wait_for()
    assert house.execute(vmid, "cat", "/root/file") == "then\n"
    expect(page.get_by_role("row").filter(has_text="The guest as it is")).to_contain_text("first")
    assert person.axe() == []

    page.get_by_role("button", name="Actions of snapshot first").click()
    page.get_by_role("menuitem", name="Delete", exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name="Delete snapshot first of kept").click()
    page.get_by_text("There are none yet.").wait_for()
    house.remove(vmid)
