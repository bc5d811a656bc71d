"""A person at the web page: Debian's Chromium against a real host, driven by Playwright.

    person = browser.person(host, "ada@pve")    # a context of its own, logged in
    person.open("/guests/100/console")
    person.page.get_by_role("button", name="Start").click()
    person.nothing_went_wrong()

What the browser complains of (script errors, refused content, requests to other hosts) fails the test at its end.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, expect, sync_playwright

from framework.host import Host
from framework.patience import PATIENCE
from framework.quiet_network import QuietNetwork, quiet_network

AXE = Path(__file__).resolve().parents[2] / "ui/node_modules/axe-core/axe.min.js"
CHROMIUM = "/usr/bin/chromium"
PASSWORD = "correct horse battery"
PHONE = {"width": 375, "height": 812}
DESK = {"width": 1280, "height": 850}
# What the browser says of what the page reckons with: not logged in yet, refused, gone; and, on the host itself, of
# calls that it gave up because an interface came or went with a guest.
_EXPECTED = (
    "Failed to load resource: the server responded with a status of",
    "Failed to load resource: net::ERR_NETWORK_CHANGED",
)
_LOADING = ".mantine-Loader-root:visible, .mantine-Skeleton-root:visible"
_COLOURS = ["color-contrast", "link-in-text-block"]
_RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]

Scheme = Literal["light", "dark"]


class Person:
    """Someone with a window of their own."""

    def __init__(self, context: BrowserContext, host: Host) -> None:
        self.host = host
        self.address = f"https://localhost:{host.port}"
        self.context = context
        self.page: Page = context.new_page()
        self.complaints: list[str] = []
        self.page.set_default_timeout(20_000 * PATIENCE)
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.complaints.append(f"script error: {error}"))
        context.on("request", self._asked)

    def _said(self, message: ConsoleMessage) -> None:
        if message.type == "error" and not message.text.startswith(_EXPECTED):
            self.complaints.append(f"console: {message.text}")

    def _asked(self, request: Request) -> None:
        if urlsplit(request.url).scheme not in ("data", "blob") and not request.url.startswith(
            (self.address, self.address.replace("https", "wss"))
        ):
            self.complaints.append(f"a request to another host: {request.url}")

    def open(self, path: str) -> None:
        """Go to a place of the page and wait for its heading."""
        self.page.goto(self.address + path)
        self.page.locator("h1").first.wait_for()

    def login(self, username: str, password: str = PASSWORD) -> None:
        """Fill in the form that is shown, and wait until it is gone."""
        form = self.page.get_by_role("form", name="Log in")
        form.get_by_label("User name").fill(username)
        form.get_by_role("textbox", name="Password").fill(password)
        form.get_by_role("button", name="Log in").click()
        form.wait_for(state="detached")

    def go(self, path: str, heading: str) -> None:
        """Go to a place as a link of the page does, and wait until it is there and nothing of it is loading."""
        self.page.evaluate(
            "path => { history.pushState(null, '', path); dispatchEvent(new PopStateEvent('popstate')) }", path
        )
        main = self.page.locator("main")
        main.get_by_role("heading", level=1, name=heading, exact=True).wait_for()
        expect(main.locator(_LOADING)).to_have_count(0, timeout=20_000 * PATIENCE)

    def axe(self, *, colours: bool = False) -> list[str]:
        """What axe finds that is serious or critical in what is shown, a line each; with `colours`, in those alone."""
        if not self.page.evaluate("'axe' in window"):
            self.page.evaluate(AXE.read_text())
        only = {"type": "rule", "values": _COLOURS} if colours else {"type": "tag", "values": _RULES}
        found: dict[str, Any] = self.page.evaluate(
            "only => axe.run(document, {runOnly: only, resultTypes: ['violations']})", only
        )
        return [
            f"{fault['impact']} {fault['id']}: {node['html'][:200]} {node['failureSummary'][:300]}"
            for fault in found["violations"]
            if fault["impact"] in ("serious", "critical")
            for node in fault["nodes"]
        ]

    def until(self, what: str, holds: Callable[[], bool]) -> None:
        """Wait until something holds that no locator can tell. Raises AssertionError with `what`."""
        deadline = time.monotonic() + 20 * PATIENCE
        while not holds():
            assert time.monotonic() < deadline, what
            self.page.wait_for_timeout(50)

    def sideways(self) -> int:
        """By how many pixels the page is wider than its window."""
        return int(self.page.evaluate("document.documentElement.scrollWidth - window.innerWidth"))

    def nothing_went_wrong(self) -> None:
        """Raise AssertionError with what the browser has complained of."""
        assert self.complaints == [], "\n".join(self.complaints)


class Window:
    """The browser of a worker."""

    def __init__(self, browser: Browser, network: QuietNetwork) -> None:
        self._browser = browser
        self.network = network

    @contextmanager
    def person(
        self,
        host: Host,
        username: str | None = "ada@pve",
        *,
        scheme: Scheme = "light",
        phone: bool = False,
        **more: Any,
    ) -> Iterator[Person]:
        """Someone in a fresh context; logged in, and at the overview, unless `username` is None."""
        self.network.reach(host.port)
        context = self._browser.new_context(
            ignore_https_errors=True,
            viewport=PHONE if phone else DESK,
            color_scheme=scheme,
            has_touch=phone,
            permissions=["clipboard-read", "clipboard-write"],
            **more,
        )
        try:
            person = Person(context, host)
            person.page.goto(person.address)
            if username is not None:
                person.login(username)
                person.page.get_by_role("heading", level=1, name="Overview").wait_for()
            yield person
            person.nothing_went_wrong()
        finally:
            context.close()


@contextmanager
def opened() -> Iterator[Window]:
    """Start Chromium, without its sandbox where root runs it."""
    expect.set_options(timeout=20_000 * PATIENCE)
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    expect.set_options(timeout=20_000 * PATIENCE)
    with quiet_network() as network, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=network.program(CHROMIUM), args=arguments)
        try:
            yield Window(browser, network)
        finally:
            browser.close()


def admit(host: Host, username: str, role: str | None = "Administrator", path: str = "/") -> None:
    """Make a user with PASSWORD, and a role on a path."""
    host.post("/access/users", userid=username, password=PASSWORD)
    if role is not None:
        host.put("/access/acl", path=path, users=username, roles=role)
