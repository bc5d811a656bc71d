"""What to run, and how: from a few words to a service that answers, plans, room, and what could be better."""

from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Locator, expect

from bastide.base.layout import Layout
from bastide.operations.architect import catalog
from framework.browser import Person
from framework.host import Host
from framework.patience import PATIENCE

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

GREETING = "The kettle is on."
# A service that needs no network: what the template has is enough for it.
ENTRY = f"""
name: teapot
title: Teapot
summary: Says that the kettle is on
category: web
source: none
ports: [{{port: 8118, what: web}}]
size: {{minimum: {{cores: 1, memory: 64M, disk: 1G}}, usual: {{cores: 1, memory: 128M, disk: 1G}}}}
recipe:
  files:
  - path: /usr/local/bin/teapot
    mode: "0755"
    text: |
      #!/usr/bin/perl
      use IO::Socket::INET;
      my $listener = IO::Socket::INET->new(LocalPort => 8118, Listen => 5, ReuseAddr => 1) or die;
      while (my $client = $listener->accept) {{
          while (my $line = <$client>) {{ last if $line =~ /^\\r?$/ }}
          print $client "HTTP/1.0 200 OK\\r\\nContent-Type: text/plain\\r\\n\\r\\n{GREETING}\\n";
          close $client;
      }}
  - path: /etc/systemd/system/teapot.service
    text: |
      [Service]
      ExecStart=/usr/local/bin/teapot
      [Install]
      WantedBy=multi-user.target
  services: [teapot.service]
  probe: {{type: http, port: 8118, contains: kettle}}
"""


@pytest.fixture(scope="module")
def teapot(house: Host) -> Iterator[Host]:
    """The host, with a service in its catalog that is quickly installed."""
    house.template()
    folder = catalog.folder(Layout(house.root))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "teapot.yaml").write_text(ENTRY)
    yield house
    (folder / "teapot.yaml").unlink()


def vmid_of(host: Host, name: str) -> int:
    return next(row["vmid"] for row in host.get("/bastide/guests") if row["name"] == name)


def editor(person: Person) -> Locator:
    return person.page.get_by_role("textbox", name="The plan, in YAML")


def test_a_service_of_the_catalog_is_launched_and_answers(person: Person, teapot: Host) -> None:
    page = person.page
    person.open("/architect")
    page.get_by_label("Search the catalog").fill("kettles")
    page.get_by_role("button", name="Run Teapot").click()
    expect(page.get_by_role("status").filter(has_text="teapot should be a container")).to_be_visible()
    expect(page.get_by_role("region", name="Rules that hold")).to_contain_text("A Linux service is a container")
    page.get_by_role("group", name="Who can reach it?").get_by_role("button", name="internet").click()
    expect(page.get_by_role("heading", name="VM", exact=True)).to_be_visible()
    expect(page.get_by_text("It would be a container if")).to_be_visible()
    page.get_by_label("Who can reach it").first.click()
    page.get_by_role("option", name="lan").click()
    expect(page.get_by_role("heading", name="Container", exact=True)).to_be_visible()
    page.get_by_label("Name of the guest").fill("Not a name")
    expect(page.get_by_text("is not a DNS name")).to_be_visible()
    expect(page.get_by_role("alert")).to_contain_text("Mend what is marked")
    page.get_by_label("Name of the guest").fill("kettle")
    page.get_by_role("button", name="Launch kettle", exact=True).click()
    link = page.get_by_role("link", name="Open http")
    link.wait_for(timeout=120_000 * PATIENCE)
    address = link.get_attribute("href") or ""
    assert httpx.get(address, trust_env=False).text.strip() == GREETING
    page.get_by_role("link", name="Show the guest").click()
    page.get_by_role("heading", level=1, name="kettle").wait_for()

    # What runs takes its place in the figures, and a name only once.
    person.open("/architect?service=teapot&name=kettle")
    expect(page.get_by_text("A guest is called so already")).to_be_visible()
    person.open("/architect/capacity")
    given = teapot.get("/architect/capacity")
    expect(page.get_by_role("region", name=f"{given['fits'][0]['count']} more container")).to_be_visible()
    containers = given["guests"]["ct"]
    expect(page.get_by_role("status").filter(has_text=f"This host has {containers} container")).to_be_visible()
    vmid = vmid_of(teapot, "kettle")
    teapot.wait(teapot.delete(teapot.path(vmid), force=1))


def test_a_review_finds_and_mends(person: Person, teapot: Host) -> None:
    vmid = teapot.create_vm(start=True, name="unagented")
    page = person.page
    person.open("/architect/review")
    found = page.get_by_role("region", name="unagented")
    expect(found).to_contain_text("its agent is not enabled")
    found.get_by_role("button", name="Set agent=1 of unagented", exact=True).click()
    expect(found.get_by_text("its agent is not enabled")).to_have_count(0)
    assert teapot.get(teapot.path(vmid, "/pending"))
    teapot.act(vmid, "stop")
    teapot.wait(teapot.delete(teapot.path(vmid)))


PLAN = """\
name: kitchen
services:
- name: pot
  service: teapot
"""


def test_a_plan_is_mended_applied_and_destroyed(person: Person, teapot: Host) -> None:
    page = person.page
    person.open("/architect/plan")
    editor(person).fill(f"{PLAN}  exposure: moon\n")
    expect(page.get_by_role("alert")).to_contain_text("Line 5: services[0].exposure")
    expect(page.locator(".cm-lint-marker-error")).to_have_count(1)

    # Half written it is still there: on another page, and when the page is loaded anew.
    page.get_by_role("link", name="Capacity").click()
    page.get_by_role("heading", level=1, name="Capacity").wait_for()
    page.get_by_role("link", name="Plan", exact=True).click()
    expect(editor(person)).to_contain_text("exposure: moon")
    page.reload()
    expect(editor(person)).to_contain_text("exposure: moon")
    expect(page.locator(".cm-lint-marker-error")).to_have_count(1)  # the schema is there, which completion asks

    # What is selected may be typed over, the schema says what may stand there, and the keyboard leads out.
    editor(person).click()
    page.keyboard.press("Control+a")
    page.keyboard.type("nam")
    page.get_by_role("option", name="name").wait_for()
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Open a file")).to_be_focused()

    editor(person).fill(PLAN)
    outlook = page.get_by_role("region", name="Plan kitchen")
    expect(outlook).to_contain_text("create: 1")
    expect(outlook.get_by_role("region", name="Decisions")).to_contain_text("CT, debian-12, Teapot")
    page.get_by_role("button", name="Apply kitchen", exact=True).click()
    expect(outlook).to_contain_text("as it should be: 1", timeout=120_000 * PATIENCE)
    guests = page.get_by_role("region", name="Guests of kitchen")
    expect(guests.get_by_role("row", name="pot")).to_contain_text("running")
    page.get_by_role("button", name="Destroy kitchen", exact=True).click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Type kitchen to go on").fill("kitchen")
    dialog.get_by_role("button", name="Destroy kitchen").click()
    expect(guests).to_have_count(0, timeout=60_000 * PATIENCE)
    assert not [row for row in teapot.get("/bastide/guests") if row["name"] == "pot"]

    page.get_by_role("button", name="ada@pve").click()
    page.get_by_role("menuitem", name="Log out").click()
    page.get_by_role("form", name="Log in").wait_for()
    assert "kitchen" not in page.evaluate("JSON.stringify(sessionStorage)")
