"""`/architect/review`: findings of the guests that a caller may see, in the shape that is declared."""

import pytest

from framework.api import call

pytestmark = pytest.mark.anyio
TEMPLATE = "local:vztmpl/debian-12-test_1_amd64.tar.gz"


async def test_findings_are_of_the_guests_that_one_may_see(api) -> None:
    made = await api.data("POST", "/nodes/pve/lxc", vmid=100, ostemplate=TEMPLATE, hostname="web", unprivileged=0)
    assert await api.wait(made) == "OK"
    review = await api.data("GET", "/architect/review", window="hour")
    assert [(guest["vmid"], guest["name"], guest["running"]) for guest in review["guests"]] == [(100, "web", False)]
    stranger = await api.token("eve@pve")
    assert (await call(stranger, "GET", "/architect/review")).json()["data"]["guests"] == []
    refused = await call(stranger, "GET", "/architect/review", guest="web")
    assert "does not exist" in refused.text
