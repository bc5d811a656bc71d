"""What a change of the store tells, and whom."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bastide.base.errors import WrongState
from bastide.base.ids import Upid
from bastide.model.access import ROOT, Identity
from bastide.operations import changes as module
from bastide.operations.changes import Changes, Listener
from bastide.operations.news import EVERYTHING, Batch, News
from bastide.state.store import Change
from framework.api import Api

pytestmark = pytest.mark.anyio

ADA = Identity("ada@pve")
TASK = Upid("pve", 1, 2, 3, "vzstart", "100", "ada@pve")


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    made = await Api.make(tmp_path)
    yield made
    await made.services.rooms.tasks.shutdown()


@asynccontextmanager
async def listening(api: Api, *identities: Identity) -> AsyncIterator[list[Listener]]:
    changes = Changes(api.services.rooms, api.services.access)
    stack = [changes.listen(identity) for identity in identities]
    listeners = [await one.__aenter__() for one in stack]
    yield listeners
    for one in stack:
        await one.__aexit__(None, None, None)


def noted(*keys: tuple[str, str | None]) -> Batch:
    batch = Batch()
    for key, value in keys:
        batch.note(Change(key, value, 1))
    return batch


async def seen(api: Api, batch: Batch, identity: Identity = ROOT) -> News:
    return batch.seen_by(identity, await api.services.access.authority(), "pve", ["local"])


async def heard(listener: Listener, seconds: float = 2.0) -> News:
    return await listener.next(seconds)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("guest/100", "{}", News(guests={100})),
        ("guest/100", None, News(guests={100})),
        ("lock/guest/100", None, News(guests={100})),
        ("cloudinit/100", "{}", News(guests={100})),
        ("storage/nas", "{}", News(topics={"storage"})),
        ("verified/nas:backup/x", "{}", News(topics={"storage"})),
        ("backupjob/a", "{}", News(topics={"jobs"})),
        ("scheduled/backupjob/a", "1", News(topics={"jobs"})),
        ("restoretest/1-100", "{}", News(topics={"jobs"})),
        ("plan/home", '{"vmid": 100}', News(topics={"architect"})),
        ("comparison/1", "{}", News(topics={"architect"})),
        ("setting/name", "x", News(topics={"nodes"})),
        ("disk/sdb", "{}", News(topics={"nodes"})),
        ("user/ada@pve", "{}", News(topics={"access"})),
        ("pool/p", "{}", News(topics={"access", "guests", "pools"})),
        ("base/local/x", "{}", News()),
        ("frozen/100", "{}", News()),
    ],
)
async def test_what_a_key_tells(api: Api, key: str, value: str | None, expected: News) -> None:
    assert await seen(api, noted((key, value))) == expected


@pytest.mark.parametrize(
    ("kind", "end", "topics"),
    [
        ("vzstart", None, set()), ("vzstart", 5, set()), ("vncproxy", 5, set()), ("vzdump", None, set()),
        ("vzdump", 5, {"storage"}), ("download", 5, {"storage"}), ("dircreate", 5, {"storage", "nodes"}),
    ],
)  # fmt: skip
async def test_the_end_of_a_task_tells_what_it_may_have_changed(api: Api, kind: str, end: int | None, topics) -> None:  # type: ignore[no-untyped-def]
    upid = str(Upid("pve", 1, 2, 3, kind, "x", "root@pam"))
    news = await seen(api, noted((f"task/{upid}", json.dumps({"endtime": end, "exitstatus": None}))))
    assert news == News(tasks={upid}, topics=topics)
    assert not await seen(api, noted((f"task/{upid}", None))), "one that is forgotten is no news"


async def test_a_caller_is_told_of_what_they_may_see_alone(api: Api) -> None:
    await api.data("POST", "/access/users", userid="ada@pve")
    await api.data("PUT", "/access/acl", path="/vms/100", users="ada@pve", roles="PVEVMUser")
    other = str(Upid("pve", 1, 2, 4, "vzdump", "101", "root@pam"))
    ended = json.dumps({"endtime": 5, "exitstatus": "OK"})
    everything = noted(
        ("guest/100", "{}"), ("guest/101", "{}"), ("lock/guest/102", "{}"), ("storage/nas", "{}"), ("pool/p", "{}"),
        (f"task/{TASK}", ended), (f"task/{other}", ended), ("user/eve@pve", "{}"), ("backupjob/a", "{}"),
        ("setting/x", "1"), ("plan/home", '{"vmid": 101}'), ("disk/sdb", "{}"), ("verified/nas:x", "1"),
    )  # fmt: skip
    assert await seen(api, everything, ADA) == News(guests={100}, tasks={str(TASK)})
    assert await seen(api, noted(("plan/home", '{"vmid": 100}')), ADA) == News(topics={"architect"})
    assert not await seen(api, everything, Identity("nobody@pve"))
    assert not await seen(api, noted((f"task/{TASK}", ended)), Identity("ada@pve", "token")), "as lists do"


async def test_news_of_very_many_are_a_topic() -> None:
    news = News()
    for first in range(0, 100_000, 10):
        news.add(News(guests=set(range(first, first + 10)), tasks={f"UPID:{first}"}))
    assert news == News(topics={"guests", "tasks"})
    assert News(guests={2, 1}, topics={"jobs"}).to_json() == '{"guests":[1,2],"topics":["jobs"]}'


async def test_a_change_is_told_once_and_in_time(api: Api) -> None:
    async with listening(api, ROOT, ROOT) as (one, two):
        begun = asyncio.get_running_loop().time()
        for number in range(50):
            await api.services.rooms.store.put("guest/100", str(number))
        assert await heard(one) == await heard(two) == News(guests={100})
        assert asyncio.get_running_loop().time() - begun < 1
        assert not await heard(one, 0.6), "it was told already"


async def test_a_guest_that_halts_by_itself_is_told_within_a_second(api: Api) -> None:
    engine = api.services.rooms.engines.vms
    async with listening(api, ROOT) as (listener,):
        engine.guests[100] = object()  # type: ignore[attr-defined]
        engine.state = lambda _vmid: "running"  # type: ignore[method-assign,assignment,return-value]
        assert await heard(listener, 1) == News(guests={100})
        engine.state = lambda _vmid: "paused"  # type: ignore[method-assign,assignment,return-value]
        assert await heard(listener, 1) == News(guests={100})
        del engine.guests[100]  # type: ignore[attr-defined]
        assert await heard(listener, 1) == News(guests={100})


async def test_whose_rights_have_changed_is_told_so_and_nobody_else(api: Api) -> None:
    for userid in ("ada@pve", "eve@pve"):
        await api.data("POST", "/access/users", userid=userid)
    async with listening(api, ADA, Identity("eve@pve")) as (ada, eve):
        await api.data("PUT", "/access/acl", path="/vms/100", users="ada@pve", roles="PVEVMUser")
        assert await heard(ada) == News(topics=set(EVERYTHING))
        assert not await heard(eve, 0.6)
        assert ada.doubtful
        assert eve.doubtful
        await api.data("PUT", "/access/acl", path="/vms/100", users="ada@pve", roles="PVEVMUser", delete=1)
        assert await heard(ada) == News(topics=set(EVERYTHING))
        await api.data("PUT", "/access/users/eve@pve", comment="x")
        assert not await heard(ada, 0.6)


async def test_a_pools_members_change_for_who_has_rights_by_it(api: Api) -> None:
    await api.data("POST", "/access/users", userid="ada@pve")
    await api.data("POST", "/pools", poolid="p")
    await api.data("PUT", "/access/acl", path="/pool/p", users="ada@pve", roles="PVEVMUser")
    async with listening(api, ADA) as (ada,):
        await api.data("PUT", "/pools", poolid="p", storage="local")
        assert "storage" in (await heard(ada)).topics


async def test_nothing_watches_while_nobody_listens(api: Api) -> None:
    changes = Changes(api.services.rooms, api.services.access)
    for _ in range(2):
        async with changes.listen(ROOT) as listener:
            await api.services.rooms.store.put("guest/1", "{}")
            assert await heard(listener) == News(guests={1})
            assert changes._watching is not None
        assert changes._watching is None


async def test_a_fault_ends_the_listening_instead_of_the_news(api: Api) -> None:
    changes = Changes(api.services.rooms, api.services.access)
    async with changes.listen(ROOT) as listener:
        await api.services.rooms.store.put("task/nonsense", "{}")
        await heard(listener)
        assert listener.lost
    async with changes.listen(ROOT) as listener:
        await api.services.rooms.store.put("guest/1", "{}")
        assert await heard(listener) == News(guests={1})


async def test_listeners_are_limited(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LISTENERS_OF_ONE", 2)
    changes = Changes(api.services.rooms, api.services.access)
    async with changes.listen(ROOT), changes.listen(ROOT):
        with pytest.raises(WrongState):
            changes.refuse_too_many(ROOT)
        changes.refuse_too_many(ADA)
    changes.refuse_too_many(ROOT)
    async with changes.listen(ADA), changes.listen(Identity("ada@pve", "a")):
        with pytest.raises(WrongState):
            changes.refuse_too_many(Identity("ada@pve", "b"))


async def test_ten_thousand_guests_and_fifty_listeners_cost_little(api: Api) -> None:
    await api.data("POST", "/access/users", userid="ada@pve")
    await api.data("PUT", "/access/acl", path="/vms", users="ada@pve", roles="PVEAuditor")
    authority = await api.services.access.authority()
    batch = noted(*((f"guest/{vmid}", "{}") for vmid in range(100, 10_100)))
    loop = asyncio.get_running_loop()
    begun = loop.time()
    told = [batch.seen_by(ADA, authority, "pve", ["local"]) for _ in range(50)]
    assert len(told[-1].guests) == 10_000
    assert loop.time() - begun < 10, "all guests at once, for all listeners"
