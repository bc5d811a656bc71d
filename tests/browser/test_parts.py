"""Parts of the page that do not come when they are first opened: the page was built anew, or the host is down."""

import re

import pytest
from playwright.sync_api import Request, Route

from framework.browser import Person

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

PART = re.compile(r"/assets/CreateVm-[^/]*\.js$")


def test_a_part_that_is_gone_loads_the_new_page_where_one_wanted_to_go(person: Person) -> None:
    page = person.page
    page.route(PART, lambda route: route.fulfill(status=404), times=1)
    page.evaluate("window.before = true")
    page.get_by_role("banner").get_by_role("link", name="Create VM").press("Enter")
    page.get_by_role("heading", level=1, name="Create VM").wait_for()
    assert page.evaluate("window.before") is None
    forget_the_part(person)


def test_a_host_that_is_down_is_told_in_the_page_itself(person: Person) -> None:
    page = person.page

    def down(route: Route, request: Request) -> None:
        if request.method == "HEAD" or PART.search(request.url):
            route.abort("connectionrefused")
        else:
            route.fallback()

    page.route("**/*", down)
    page.get_by_role("banner").get_by_role("link", name="Create VM").click()
    page.get_by_role("alert").get_by_text("the host does not answer").wait_for()
    page.get_by_role("button", name="Try again").click()
    page.get_by_text("The host does not answer. Tried once.").wait_for()
    assert person.axe() == []
    page.unroute("**/*")
    page.get_by_role("button", name="Try again").click()
    page.get_by_role("heading", level=1, name="Create VM").wait_for()
    forget_the_part(person)


def forget_the_part(person: Person) -> None:
    """What the browser says of a part that it was kept from is no fault."""
    said = ("console: PartMissing: ", "console: Failed to load resource: net::ERR_CONNECTION_REFUSED")
    person.complaints[:] = [line for line in person.complaints if not line.startswith(said)]
