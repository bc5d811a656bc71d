"""Second factors at the page: an app's codes, recovery codes, a security key in Chromium's virtual authenticator."""

import re
import time
from collections.abc import Iterator

import pyotp
import pytest
from playwright.sync_api import CDPSession, Locator, expect

from framework import browser
from framework.browser import PASSWORD, Person, Window
from framework.host import Host

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]


@pytest.fixture
def eve(window: Window, house: Host) -> Iterator[Person]:
    """Somebody of the test's own, with the same window at every login."""
    browser.admit(house, "eve@pve", role=None)
    try:
        with window.person(house, "eve@pve") as person:
            yield person
    finally:
        house.delete("/access/users/eve@pve")


def authenticator(person: Person) -> CDPSession:
    """Plug a security key in that is touched at once (Chrome DevTools Protocol, domain WebAuthn)."""
    session = person.context.new_cdp_session(person.page)
    session.send("WebAuthn.enable")
    options = {"protocol": "ctap2", "transport": "usb", "hasResidentKey": False, "hasUserVerification": False,
               "isUserVerified": False, "automaticPresenceSimulation": True}  # fmt: skip
    session.send("WebAuthn.addVirtualAuthenticator", {"options": options})
    return session


def own_factors(person: Person) -> Locator:
    """Open the dialog of one's own."""
    person.page.get_by_role("button", name=re.compile(r"^\S+@pve: appearance")).click()
    person.page.get_by_role("menuitem", name="Second factors").click()
    return person.page.get_by_role("dialog", name="Your second factors")


def leave(person: Person) -> Locator:
    """Log out and give the password; returns the form of the second step."""
    person.page.keyboard.press("Escape")
    person.page.get_by_role("button", name=re.compile(r"^\S+@pve: appearance")).click()
    person.page.get_by_role("menuitem", name="Log out").click()
    form = person.page.get_by_role("form", name="Log in")
    form.get_by_label("User name").fill("eve@pve")
    form.get_by_role("textbox", name="Password").fill(PASSWORD)
    form.get_by_role("button", name="Log in").click()
    second = person.page.get_by_role("form", name="Second factor")
    second.wait_for()
    return second


def test_an_app_and_recovery_codes(eve: Person, house: Host) -> None:
    page = eve.page
    dialog = own_factors(eve)
    expect(dialog.get_by_text("the password alone is enough")).to_be_visible()
    dialog.get_by_role("button", name="Add codes of an app").click()
    expect(dialog.get_by_role("img", name="QR code for the app")).to_be_visible()
    app = pyotp.TOTP(dialog.locator("code").first.inner_text().replace(" ", ""))
    assert len(app.secret) == 32
    dialog.get_by_label("Description").fill("phone")
    dialog.get_by_label("Code that the app shows").fill("000000")
    dialog.get_by_label("Your own present password").fill(PASSWORD)
    dialog.get_by_role("button", name="Add", exact=True).click()
    dialog.get_by_text("is not the present code").wait_for()
    dialog.get_by_label("Code that the app shows").fill(app.now())
    assert eve.axe() == []
    dialog.get_by_role("button", name="Add", exact=True).click()
    dialog.get_by_role("rowheader", name="Codes of an app").wait_for()
    dialog.get_by_role("button", name="Make recovery codes").click()
    dialog.get_by_label("Your own present password").fill(PASSWORD)
    dialog.get_by_role("button", name="Make codes").click()
    listed = dialog.get_by_role("list", name="Recovery codes").locator("code")
    expect(listed).to_have_count(10)
    codes = listed.all_inner_texts()
    dialog.get_by_role("button", name="Done").click()
    dialog.get_by_role("rowheader", name="Recovery codes").wait_for()

    second = leave(eve)
    assert eve.axe() == []
    second.get_by_label("Code of your app").fill("000000")
    second.get_by_role("button", name="Log in").click()
    expect(second.get_by_role("alert")).to_contain_text("not right")
    second.get_by_label("Code of your app").fill(app.at(int(time.time()) + 30))
    second.get_by_role("button", name="Log in").click()
    page.get_by_role("heading", level=1, name="Overview").wait_for()

    second = leave(eve)
    second.get_by_text("Recovery codes", exact=True).click()
    expect(second.get_by_text("Unused: 1, 2, 3, 4, 5, 6, 7, 8, 9, 10")).to_be_visible()
    second.get_by_role("textbox", name="Recovery code").fill(codes[0])
    second.get_by_role("button", name="Log in").click()
    page.get_by_role("heading", level=1, name="Overview").wait_for()
    assert house.get("/access/tfa/eve@pve")[0]["description"] == "phone"


def test_a_security_key(eve: Person, house: Host) -> None:
    page = eve.page
    authenticator(eve)
    dialog = own_factors(eve)
    dialog.get_by_role("button", name="Add security key").click()
    dialog.get_by_label("Description").fill("blue key")
    dialog.get_by_label("Your own present password").fill(PASSWORD)
    dialog.get_by_role("button", name="Go on").click()
    dialog.get_by_role("rowheader", name="Security key").wait_for()
    second = leave(eve)
    second.get_by_role("button", name="Use security key").click()
    page.get_by_role("heading", level=1, name="Overview").wait_for()
    [entry] = house.get("/access/tfa/eve@pve")
    assert (entry["type"], entry["description"]) == ("webauthn", "blue key")

    dialog = own_factors(eve)
    dialog.get_by_role("button", name="Remove", exact=False).click()
    question = page.get_by_role("dialog", name="Remove Security key (blue key)")
    question.get_by_label("Your own present password").fill(PASSWORD)
    question.get_by_role("button", name="Remove", exact=True).click()
    dialog.get_by_text("the password alone is enough").wait_for()


def test_an_administrator_unlocks_and_removes(person: Person, house: Host) -> None:
    house.post("/access/users", userid="lost@pve", password=PASSWORD)
    try:
        codes = house.post("/access/tfa/lost@pve", type="recovery")["recovery"]
        assert len(codes) == 10
        app = pyotp.TOTP(pyotp.random_base32())
        house.post("/access/tfa/lost@pve", type="totp", totp=app.provisioning_uri(name="x"), value=app.now())
        person.open("/access")
        person.page.get_by_role("button", name="Second factors of lost@pve").click()
        dialog = person.page.get_by_role("dialog", name="Second factors of lost@pve")
        dialog.get_by_role("rowheader", name="Codes of an app").wait_for()
        assert person.axe() == []
        dialog.get_by_role("button", name="Remove Recovery codes").click()
        question = person.page.get_by_role("dialog", name="Remove Recovery codes")
        question.get_by_label("Your own present password").fill(PASSWORD)
        question.get_by_role("button", name="Remove", exact=True).click()
        dialog.get_by_role("rowheader", name="Recovery codes").wait_for(state="detached")
        assert [entry["type"] for entry in house.get("/access/tfa/lost@pve")] == ["totp"]
    finally:
        house.delete("/access/users/lost@pve")
