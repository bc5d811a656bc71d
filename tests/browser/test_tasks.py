"""A task at the page: its log as it grows, and its end by somebody's hand."""

import re

import pytest

from framework.browser import Person
from framework.host import Host

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

PROGRESS = re.compile(r"MiB in \d+s")


def test_a_task_is_followed_and_stopped(person: Person, house: Host) -> None:
    vmid = house.create()
    try:
        upid = house.post(f"/nodes/{house.node}/vzdump", vmid=vmid, storage="local", bwlimit=1000, compress=0)
        page = person.page
        person.open("/tasks?state=running")
        page.get_by_role("link", name=f"Back up {vmid}").click()
        log = page.get_by_role("log")
        log.get_by_text(PROGRESS).nth(1).wait_for()  # the second is written after the page was there
        page.get_by_role("button", name=f"Stop task: Back up {vmid}", exact=True).click()
        page.get_by_role("dialog").get_by_role("button", name=f"Stop task: Back up {vmid}", exact=True).click()
        page.get_by_role("alert").get_by_text("received interrupt").first.wait_for()
        log.get_by_text("TASK ERROR: received interrupt").wait_for()
        assert house.get(f"/nodes/{house.node}/tasks/{upid}/status")["status"] == "stopped"
        with page.expect_download() as coming:
            page.get_by_role("link", name="Download log").click()
        assert "TASK ERROR: received interrupt" in coming.value.path().read_text()
    finally:
        house.wait(house.delete(house.path(vmid)))
