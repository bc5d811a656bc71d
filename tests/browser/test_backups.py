"""Backups at the page: made, looked into, a file fetched by who has to log in meanwhile, and a guest restored."""

import base64
import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Locator

from framework.browser import Person
from framework.host import Host

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

BYTES = bytes(range(256)) * 9
FILE = "every byte; <b>bold"


@pytest.fixture
def saved(house: Host) -> Iterator[int]:
    """A container with a file in it."""
    vmid = house.create(start=True)
    words = base64.b64encode(BYTES).decode()
    house.execute(vmid, "sh", "-c", f"echo {words} | base64 -d > '/srv/{FILE}'")
    yield vmid
    for row in house.get(f"/nodes/{house.node}/storage/local/content", content="backup", vmid=vmid):
        place = f"/nodes/{house.node}/storage/local/content/{row['volid']}"
        house.put(place, protected=0)
        house.wait(house.delete(place))
    house.act(vmid, "stop")
    house.wait(house.delete(house.path(vmid)))


def choose(person: Person, entry: str) -> None:
    """An entry of the only backup's menu."""
    person.page.get_by_role("button", name=re.compile("^Actions of vzdump-")).click()
    person.page.get_by_role("menuitem", name=entry, exact=True).click()


def back_up(person: Person, vmid: int) -> Locator:
    """Make a backup with notes at the guest's own page; returns its row."""
    person.open(f"/guests/{vmid}/backups")
    person.page.get_by_role("button", name="Back up now").click()
    form = person.page.get_by_role("dialog")
    form.get_by_label("Notes").fill("{{guestname}} <i>as it was</i>")
    form.get_by_role("button", name="Back up", exact=True).click()
    row = person.page.get_by_role("row").filter(has_text=f"ct{vmid} <i>as it was</i>")
    row.wait_for()
    return row


def test_a_file_and_a_guest_come_back(person: Person, house: Host, saved: int) -> None:
    page = person.page
    row = back_up(person, saved)
    choose(person, "Protect")
    row.get_by_text("protected").wait_for()
    choose(person, "Browse files")
    page.get_by_role("button", name="srv", exact=True).click()
    page.reload()  # the folder has an address
    link = page.get_by_role("link", name=f"Download {FILE} as file")
    link.wait_for()

    person.context.clear_cookies()
    with page.expect_download() as coming:
        link.click()
        page.get_by_text("Your login has expired").wait_for()
        person.login("ada@pve")
    assert coming.value.suggested_filename.startswith("every byte")
    assert coming.value.path().read_bytes() == BYTES

    page.get_by_role("link", name="All backups of the guest").click()
    choose(person, "Restore")
    form = page.get_by_role("dialog")
    made = int(form.get_by_label("VMID").input_value())
    try:
        form.get_by_label("Name").fill("came-back")
        form.get_by_role("switch", name="Start it then").click(force=True)
        form.get_by_role("button", name="Restore", exact=True).click()
        page.get_by_role("treeitem", name=re.compile("came-back.*running")).wait_for()
        assert base64.b64decode(house.execute(made, "base64", f"/srv/{FILE}")) == BYTES
    finally:
        house.act(made, "stop")
        house.wait(house.delete(house.path(made)))
