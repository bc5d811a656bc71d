"""Realms at the page: a directory is added, synced and removed; somebody comes in by an OpenID provider."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import expect

from framework.browser import Person, Window
from framework.host import Host
from framework.openid_provider import describe, provider
from framework.patience import PATIENCE
from framework.slapd import ADMIN, GROUPS, PEOPLE, SECRET, Slapd, group
from framework.slapd import person as entry

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]


def test_a_directory_is_added_looked_into_and_synced(person: Person, tmp_path: Path) -> None:
    page, host = person.page, person.host
    realm = f"corp{host.first_vmid}"
    with Slapd.launched(tmp_path / "d", *people()) as directory:
        try:
            person.open("/access/realms")
            page.get_by_role("button", name="Add realm").click()
            dialog = page.get_by_role("dialog", name="Add realm")
            dialog.get_by_role("textbox", name="Name", exact=True).fill(realm)
            dialog.get_by_role("textbox", name="Server", exact=True).fill("127.0.0.1")
            dialog.get_by_role("combobox", name="Encryption").click()
            page.get_by_role("option", name="ldap", exact=True).click()
            dialog.get_by_label("Port").fill(str(directory.port))
            dialog.get_by_role("textbox", name="Base", exact=True).fill(PEOPLE)
            dialog.get_by_label("Attribute with the name").fill("uid")
            dialog.get_by_label("Bind as").fill(ADMIN)
            dialog.get_by_role("textbox", name="Their password").fill("wrong")
            dialog.get_by_role("button", name="What a sync takes over").click()
            dialog.get_by_label("Base of groups").fill(GROUPS)
            dialog.get_by_role("button", name="Add", exact=True).click()
            expect(dialog.get_by_role("alert")).to_contain_text("refuses 'bind_dn' with its password")
            dialog.get_by_role("textbox", name="Their password").fill(SECRET)
            dialog.get_by_role("button", name="Add", exact=True).click()
            row = page.get_by_role("row", name=re.compile(f"{realm} LDAP directory"))
            row.wait_for()
            assert person.axe() == []

            row.get_by_role("button", name=re.compile("^Preview")).click()
            dialog = page.get_by_role("dialog", name=f"Preview the sync of {realm}")
            dialog.get_by_role("button", name="Preview", exact=True).click()
            expect(page.get_by_text(f"Preview the sync of {realm}: done").first).to_be_visible(
                timeout=30_000 * PATIENCE
            )
            assert not any(user["userid"].endswith(realm) for user in host.get("/access/users"))
            row.get_by_role("button", name=re.compile("^Sync")).click()
            dialog = page.get_by_role("dialog", name=f"Sync {realm}", exact=True)
            dialog.get_by_role("button", name="Sync", exact=True).click()
            page.get_by_text(f"Sync {realm}: done").first.wait_for(timeout=60_000 * PATIENCE)
            assert host.get(f"/access/users/ada@{realm}")["groups"] == [f"ops-{realm}"]

            row.get_by_role("button", name=re.compile("^Edit")).click()
            dialog = page.get_by_role("dialog", name=f"Change {realm}")
            expect(dialog.get_by_label("Bind as")).to_have_value(ADMIN)
            expect(dialog.get_by_role("textbox", name="Their password")).to_have_value("")
            dialog.get_by_label("Comment").fill("The office")
            dialog.get_by_role("button", name="Save").click()
            expect(row).to_contain_text("The office")

            row.get_by_role("button", name=re.compile("^Remove")).click()
            dialog = page.get_by_role("dialog", name=f"Remove realm {realm}?")
            expect(dialog).to_contain_text("1 users, who stay and cannot log in")
            dialog.get_by_role("button", name=re.compile("^Remove")).click()
            expect(row).to_have_count(0)
        finally:
            tidy(host, realm)


def test_somebody_comes_in_by_an_openid_provider(window: Window, house: Host) -> None:
    realm = f"sso{house.first_vmid}"
    with provider(require_nonce=True) as issuer, window.person(house, None) as person:
        window.network.reach(int(issuer.rpartition(":")[2]))
        describe(issuer, "grace", email="grace@x.test")
        try:
            house.post("/access/domains", realm=realm, type="openid", issuer_url=issuer, client_id="bastide",
                       client_key="a-key", autocreate=1, comment=f"Provider {realm}")  # fmt: skip
            page = person.page
            page.goto(f"{person.address}/?code=x&state=y")  # a link of somebody else's
            form = page.get_by_role("form", name="Log in")
            expect(form.get_by_role("alert")).to_have_text("This login was not begun in this window.")
            assert page.url == f"{person.address}/"
            form.get_by_role("combobox", name="Realm").click()
            page.get_by_role("option", name=f"Provider {realm}").click()
            expect(form.get_by_label("User name")).to_have_count(0)
            form.get_by_role("button", name=f"Log in at Provider {realm}").click()
            page.wait_for_url(f"{issuer}/**")
            page.locator("input[name=sub]").first.fill("grace")
            page.locator("input[name=sub]").first.press("Enter")
            page.get_by_role("button", name=f"grace@{realm}").wait_for(timeout=60_000 * PATIENCE)
            person.complaints.clear()  # the provider's page has a style from elsewhere
            assert page.url == f"{person.address}/"
            logins = [row for row in house.get("/bastide/audit", user=f"grace@{realm}") if row["event"] == "login"]
            assert logins, "nobody wrote down who came in"
        finally:
            tidy(house, realm)


def people() -> list[str]:
    """One person in one group."""
    return [entry("ada", "a-password"), group("ops", "ada")]


def tidy(host: Host, realm: str) -> None:
    """Leave nothing of a realm on the worker's host."""
    for user in host.get("/access/users"):
        if user["userid"].endswith(f"@{realm}"):
            host.delete(f"/access/users/{user['userid']}")
    for found in host.get("/access/groups"):
        if found["groupid"].endswith(f"-{realm}"):
            host.delete(f"/access/groups/{found['groupid']}")
    if any(row["realm"] == realm for row in host.get("/access/domains")):
        host.delete(f"/access/domains/{realm}")
