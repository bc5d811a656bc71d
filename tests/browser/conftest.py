"""A browser a module, and the administrator `ada@pve` on its host. A failed test leaves a picture of what was shown."""

from collections.abc import Iterator
from typing import Any

import pytest

from framework import browser
from framework.browser import Person, Window
from framework.host import Host


# Playwright keeps an event loop running in the thread: while it does, asynchronous tests of other modules cannot run.
@pytest.fixture(scope="module")
def window() -> Iterator[Window]:
    with browser.opened() as window:
        yield window


@pytest.fixture(scope="session")
def house(host: Host) -> Host:
    """The worker's host, with someone who may do everything."""
    browser.admit(host, "ada@pve")
    return host


@pytest.fixture
def person(window: Window, house: Host, request: pytest.FixtureRequest) -> Iterator[Person]:
    """Ada, logged in, at the overview."""
    with window.person(house) as person:
        yield person


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Tell what the browser showed when a test failed."""
    outcome: Any = yield
    report = outcome.get_result()
    person = getattr(item, "funcargs", {}).get("person")
    if report.failed and report.when == "call" and isinstance(person, Person):
        report.sections.append(("what the browser showed", person.page.locator("body").aria_snapshot()))
        report.sections.append(("what the browser complained of", "\n".join(person.complaints)))
