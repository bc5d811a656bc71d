"""A store that sets aside what cannot be read."""

import json

import pytest

from bastide.base.errors import Conflict, InvalidParameter, NotFound, Unreadable
from bastide.state.checked import CheckedStore
from bastide.state.memory import MemoryStore
from bastide.state.store import ABSENT, ANY, Entry

pytestmark = pytest.mark.anyio


def read(entry: Entry) -> object:
    return json.loads(entry.value)["name"]


async def store() -> CheckedStore:
    inner = MemoryStore()
    await inner.put("thing/1", '{"name": 1}')
    await inner.put("thing/2", "{torn")
    await inner.put("thing/3", "{}")
    await inner.put("other/1", "no JSON, and nobody minds")
    return await CheckedStore.over(inner, {"thing/": read})


async def test_the_others_are_listed_and_what_is_aside_is_told() -> None:
    checked = await store()
    assert [entry.key for entry in await checked.list("")] == ["other/1", "thing/1"]
    assert {one.entry.key: one.entry.value for one in checked.aside("thing/")} == {"thing/2": "{torn", "thing/3": "{}"}
    assert checked.aside("thing/3")[0].reason == "'name' is missing"
    assert checked.aside("other/") == ()


async def test_nothing_writes_over_it() -> None:
    """Without the refusal in `put` this fails: a record under the name would take its place."""
    checked = await store()
    for expect in (ANY, ABSENT):
        with pytest.raises(Unreadable, match="thing/2"):
            await checked.put("thing/2", "x", expect)
    for method in (checked.get, checked.delete):
        with pytest.raises(Unreadable, match="thing/2"):
            await method("thing/2")
    assert checked.aside()[0].entry.value == "{torn"
    await checked.put("thing/4", "x")
    await checked.delete("thing/1")


async def test_a_repair_must_be_readable_itself() -> None:
    checked = await store()
    with pytest.raises(InvalidParameter) as caught:
        await checked.repair("thing/2", "[")
    assert "value" in caught.value.errors
    await checked.repair("thing/2", '{"name": 2}')
    assert [entry.key for entry in await checked.list("thing/")] == ["thing/1", "thing/2"]
    assert await checked.get("thing/2") is not None


async def test_it_can_be_removed_once() -> None:
    checked = await store()
    await checked.discard("thing/2")
    assert await checked.get("thing/2") is None
    with pytest.raises(NotFound):
        await checked.discard("thing/2")
    with pytest.raises(NotFound):
        await checked.discard("thing/1")


async def test_one_that_changed_meanwhile_stays() -> None:
    inner = MemoryStore()
    await inner.put("thing/2", "{torn")
    checked = await CheckedStore.over(inner, {"thing/": read})
    await inner.put("thing/2", "{torn again")
    with pytest.raises(Conflict):
        await checked.discard("thing/2")
