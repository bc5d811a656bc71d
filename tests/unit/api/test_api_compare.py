"""`/architect/compare`: who may measure and look, and what is answered when nothing was measured."""

from typing import Any

import pytest

from bastide.api import architect_compare
from bastide.base.ids import Upid
from bastide.model.comparison import Comparison, Figure, Side
from bastide.operations.architect import compare
from framework.api import call

pytestmark = pytest.mark.anyio
PATH = "/architect/compare"
UPID = "UPID:pve:00000001:00000002:00000003:compare:debian-12:root@pam:"


def table(taken: str) -> Comparison:
    ct = Side(kind="ct", figures={"start": Figure.of("s", [1.0])})
    return Comparison(taken=taken, quick=True, runs=1, image="debian-12", host={}, ct=ct, vm=None)


@pytest.fixture
def asked(monkeypatch) -> list[compare.Asked]:
    found = []

    async def measure(_rooms: Any, _by: Any, wanted: compare.Asked) -> Upid:
        found.append(wanted)
        return Upid.parse(UPID)

    monkeypatch.setattr(architect_compare.compare, "compare", measure)
    return found


async def test_what_is_asked_reaches_the_operation(api, asked) -> None:
    assert await api.data("POST", PATH, quick=1, runs=2, vm=0) == UPID
    assert await api.data("POST", PATH) == UPID
    assert asked == [compare.Asked(quick=True, runs=2, vm=False), compare.Asked()]


@pytest.mark.parametrize(
    "wrong", [{"runs": 0}, {"runs": 21}, {"image": "a\nb"}, {"storage": "../x"}, {"colour": "red"}]
)
async def test_wrong_parameters_are_refused(api, asked, wrong) -> None:
    assert (await call(api.root, "POST", PATH, **wrong)).status_code == 400
    assert asked == []


async def test_measuring_needs_more_than_looking(api, asked) -> None:
    auditor = await api.token(grants={"/": "PVEAuditor"})
    assert (await call(auditor, "POST", PATH)).status_code == 403
    assert "does not exist yet" in (await call(auditor, "GET", PATH)).text
    stranger = await api.token("eve@pve")
    for path in (PATH, f"{PATH}/kept", f"{PATH}/chart"):
        assert (await call(stranger, "GET", path)).status_code == 403
    assert asked == []


async def test_the_newest_an_earlier_one_and_the_list(api) -> None:
    first, second = table("2026-11-26T00:00:00Z"), table("2026-11-27T00:00:00Z")
    for one in (first, second):
        await compare.keep(api.services.rooms, one)
    assert await api.data("GET", PATH) == second.model_dump(mode="json")
    assert await api.data("GET", PATH, taken=first.taken) == first.model_dump(mode="json")
    rows = await api.data("GET", f"{PATH}/kept")
    assert [row["taken"] for row in rows] == [second.taken, first.taken]
    assert (rows[0]["vm"], rows[0]["emulated"]) == (False, False)
    assert "does not exist" in (await call(api.root, "GET", PATH, taken="2020-01-01T00:00:00Z")).text
    assert (await call(api.root, "GET", PATH, taken="yesterday")).status_code == 400


async def test_a_chart_is_a_picture(api) -> None:
    await compare.keep(api.services.rooms, table("2026-11-27T00:00:00Z"))
    answer = await call(api.root, "GET", f"{PATH}/chart")
    assert answer.headers["content-type"].startswith("image/svg+xml")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert b"start to ready" in answer.content
    assert (await call(api.root, "GET", f"{PATH}/chart", format="gif")).status_code == 400
