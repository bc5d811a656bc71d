"""A guest's page: what waits for the next start, what is refused, and how a guest is removed."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from framework.browser import Person
from framework.host import Host

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]


@pytest.fixture
def container(house: Host) -> Iterator[int]:
    """A stopped container, without a network."""
    vmid = house.create(net0=None, hostname="page-ct")
    yield vmid
    house.remove(vmid)


def test_what_is_changed_in_a_running_vm_waits_and_can_be_reverted(person: Person, house: Host) -> None:
    vmid = house.create_vm(start=True, name="waits")
    page = person.page
    person.open(f"/guests/{vmid}/hardware")
    page.get_by_role("button", name="Edit Memory").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Memory (MiB)").fill("8")
    dialog.get_by_role("button", name="Save").click()
    dialog.get_by_text("Input should be greater than or equal to 16").wait_for()
    dialog.get_by_label("Memory (MiB)").fill("96")
    dialog.get_by_role("button", name="Save").click()
    memory = page.get_by_role("row").filter(has=page.get_by_role("rowheader", name="Memory"))
    memory.get_by_text("At the next start: 96 MiB").wait_for()
    expect(page.get_by_role("button", name="Edit Memory")).to_be_focused()
    page.get_by_text("1 change waits for the next start").wait_for()
    assert person.axe() == []
    memory.get_by_role("button", name="Revert").click()
    page.get_by_text("1 change waits for the next start").wait_for(state="detached")
    assert house.get(house.path(vmid, "/config"))["memory"] == "64"
    house.remove(vmid)


def test_what_the_api_refuses_stands_beside_its_field_and_nothing_is_made(
    person: Person, house: Host, container: int
) -> None:
    page = person.page
    person.open(f"/guests/{container}/network")
    page.get_by_role("button", name="Add").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("IPv4", exact=True).fill("10.1.1.x/24")
    dialog.get_by_role("button", name="Save").click()
    field = dialog.get_by_label("IPv4", exact=True)
    dialog.get_by_text("'10.1.1.x/24' is not dhcp, manual or an IPv4 address").wait_for()
    assert field.get_attribute("aria-invalid") == "true"
    assert "net0" not in house.get(house.path(container, "/config"))
    field.fill("10.99.0.5/24")
    dialog.get_by_role("button", name="Save").click()
    page.get_by_role("rowheader", name="Network net0").wait_for()
    assert "ip=10.99.0.5/24" in house.get(house.path(container, "/config"))["net0"]


def test_a_guest_is_removed_when_its_name_is_typed(person: Person, house: Host) -> None:
    vmid = house.create(net0=None, hostname="goes")
    page = person.page
    person.open(f"/guests/{vmid}/summary")
    page.get_by_role("button", name="More for goes").click()
    page.get_by_role("menuitem", name="Remove").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_text(f"1 volume goes, with all that is on it: local:{vmid}/").wait_for()
    sure = dialog.get_by_role("button", name="Remove CT goes")
    assert sure.is_disabled()
    dialog.get_by_label("Type goes to go on").fill("goe")
    assert sure.is_disabled()
    dialog.get_by_label("Type goes to go on").fill("goes")
    sure.click()
    page.get_by_role("heading", level=1, name="Overview").wait_for()
    page.get_by_text("Remove CT goes: done").wait_for()
    assert vmid not in [row["vmid"] for row in house.get("/cluster/resources", type="vm")]


def test_a_guest_that_goes_while_it_is_looked_at_is_told(person: Person, house: Host) -> None:
    vmid = house.create(net0=None, hostname="looked-at")
    person.open(f"/guests/{vmid}/options")
    house.remove(vmid)
    person.page.get_by_role("heading", name=f"No guest {vmid}").wait_for()
