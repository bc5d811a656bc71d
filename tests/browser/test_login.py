"""Who comes in at the page, and what stays when a session ends."""

import pytest
from playwright.sync_api import Response, expect

from framework import browser
from framework.browser import PASSWORD, Person, Window
from framework.host import ApiFailure, Host

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]


def focused(person: Person) -> str:
    """The type of the input that has the focus."""
    return str(person.page.evaluate("document.activeElement.type"))


def test_somebody_logs_in_by_keys_alone_and_leaves_nothing_to_the_next(window: Window, house: Host) -> None:
    vmid = house.create(hostname="secretplan")
    refused: list[Response] = []
    try:
        browser.admit(house, "bob@pve", role=None)
        with window.person(house, None) as person:
            page = person.page
            page.on("response", lambda answer: refused.append(answer) if answer.status >= 400 else None)
            page.reload()
            form = page.get_by_role("form", name="Log in")
            form.wait_for()
            assert refused == [], "a first visit is no failure"
            expect(form.get_by_label("User name")).to_be_focused()
            page.keyboard.type("ada@pve")
            expect(form.get_by_label("Realm").first).to_have_value("Bastide authentication server")
            page.keyboard.press("Tab")
            page.keyboard.type("wrong")
            page.keyboard.press("Enter")
            expect(form.get_by_role("alert")).to_have_text("The user name, the password or the realm is wrong.")
            expect(form.get_by_label("User name")).to_have_value("ada@pve")
            assert focused(person) == "password"
            page.keyboard.type(PASSWORD)
            page.keyboard.press("Enter")
            page.get_by_label("Filter the tree").fill("secretplan")  # other tests' guests may be above it
            page.get_by_role("treeitem", name=f"CT {vmid} secretplan, stopped").wait_for()

            page.get_by_role("button", name="ada@pve").click()
            page.get_by_role("menuitem", name="Log out").click()
            person.login("bob@pve")
            page.get_by_text("There are no guests yet.").wait_for()
            assert page.get_by_text("secretplan").count() == 0
    finally:
        house.wait(house.delete(house.path(vmid)))


def test_a_login_that_expires_is_asked_for_over_what_was_typed(person: Person) -> None:
    page, pool = person.page, f"shop{person.host.first_vmid}"
    person.open("/pools")
    page.get_by_role("button", name="Add pool", exact=True).first.click()
    dialog = page.get_by_role("dialog", name="Add pool", exact=True)
    dialog.get_by_label("Name").fill(pool)
    person.context.clear_cookies()
    dialog.get_by_role("button", name="Add pool", exact=True).click()
    form = page.get_by_role("form", name="Log in")
    form.wait_for()
    expect(form.get_by_label("User name")).to_have_value("ada@pve")
    expect(dialog.get_by_label("Name")).to_have_value(pool)
    with pytest.raises(ApiFailure):
        person.host.get(f"/pools/{pool}")
    form.get_by_role("textbox", name="Password").click()  # it lies over the dialog
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    form.wait_for(state="detached")
    dialog.wait_for(state="hidden")
    page.get_by_role("heading", name=pool).wait_for()
    person.host.delete(f"/pools/{pool}")


def test_another_tab_logs_out_too(person: Person) -> None:
    other = person.context.new_page()
    other.goto(person.address)
    other.get_by_role("button", name="ada@pve").click()
    other.get_by_role("menuitem", name="Log out").click()
    person.page.get_by_role("form", name="Log in").wait_for()
    other.close()
