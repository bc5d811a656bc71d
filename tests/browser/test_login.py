"""Who comes in at the page, and what stays when a session ends."""

import pytest

from framework.browser import Person

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]


def test_someone_logs_in_and_out(person: Person) -> None:
    person.page.get_by_role("button", name="ada@pve").click()
    person.page.get_by_role("menuitem", name="Log out").click()
    person.page.get_by_role("form", name="Log in").wait_for()
