"""Plan, record and guests compared, as values."""

from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from bastide.architect.differences import Order, Present, contradictions, order, steps, values
from bastide.base.errors import InvalidParameter
from bastide.model.advice import HostFacts
from bastide.model.documents import parse
from bastide.model.homelab import Homelab, Placed, PlannedService, PlanRecord
from bastide.model.service import Choice
from framework.advice import advice_for

FACTS = HostFacts()


def _plan(*services: dict[str, Any], name: str = "lab") -> Homelab:
    return Homelab.model_validate({"name": name, "services": services})


def _orders(plan: Homelab, kind: Choice | None = None) -> dict[str, Order]:
    return {one.name: order(plan.name, one, advice_for(one, kind), FACTS) for one in plan.services}


def _ct(vmid: int = 100, name: str = "web", state: str = "running", **config: Any) -> Present:
    given = {
        "hostname": name, "memory": 512, "cores": 1, "rootfs": f"local:{vmid}/vm-{vmid}-disk-0.raw,size=4G",
        "net0": "name=eth0,bridge=vmbr0,ip=dhcp,ip6=auto,hwaddr=02:00:00:00:00:01", "tags": "lab",
        "features": "nesting=1",
    }  # fmt: skip
    return Present(vmid, "ct", name, state, {**given, **config})


def _record(plan: Homelab, state: str = "ready", **vmids: int) -> PlanRecord:
    guests = {}
    for name, vmid in vmids.items():
        service = next(one for one in plan.services if name in one.guests)
        one = _orders(plan)[service.name]
        guests[name] = Placed(
            service=service.name, vmid=vmid, kind=one.kind, state=state, origin=dict(one.origin),
            wanted=dict(one.wanted), seen={"hostname": name, "features": "nesting=1"},
        )  # fmt: skip
    return PlanRecord(name=plan.name, guests=guests)


def _only(plan: Homelab, record: PlanRecord | None, *present: Present) -> Any:
    found, problems = steps(plan, _orders(plan), record, {one.vmid: one for one in present})
    assert problems == {}
    assert len(found) == 1
    return found[0]


def test_what_was_never_applied_is_created() -> None:
    step = _only(_plan({"name": "web"}), None)
    assert (step.action, step.vmid, step.work) == ("create", None, ("create", "finish"))


def test_what_is_as_wanted_is_kept() -> None:
    plan = _plan({"name": "web"})
    step = _only(plan, _record(plan, web=100), _ct())
    assert (step.action, step.work, step.differences) == ("keep", (), ())


def test_a_changed_plan_and_a_guest_changed_by_hand_are_told_apart() -> None:
    before, after = _plan({"name": "web"}), _plan({"name": "web", "memory": "1G"})
    step = _only(after, _record(before, web=100), _ct())
    assert (step.action, step.work) == ("change", ("change",))
    assert [(one.key, one.present, one.wanted) for one in step.differences] == [("memory", 512, 1024)]
    step = _only(before, _record(before, web=100), _ct(memory=2048, features="nesting=1,keyctl=1"))
    assert step.action == "drift"
    assert [(one.key, one.wanted, one.restart) for one in step.differences] == [
        ("memory", 512, False),
        ("features", "nesting=1", True),
    ]


def test_an_option_that_was_added_by_hand_is_to_go() -> None:
    plan = _plan({"name": "web"})
    step = _only(plan, _record(plan, web=100), _ct(protection=1))
    assert [(one.key, one.present, one.wanted) for one in step.differences] == [("protection", 1, None)]


def test_disks_grow_and_never_shrink() -> None:
    plan, larger, smaller = (
        _plan({"name": "web"}),
        _plan({"name": "web", "disk": "6G"}),
        _plan({"name": "web", "disk": "2G"}),
    )
    assert _only(larger, _record(plan, web=100), _ct()).work == ("grow",)
    _, problems = steps(smaller, _orders(smaller), _record(plan, web=100), {100: _ct()})
    assert list(problems) == [("services", 0, "disk")]
    assert "cannot shrink to 2G" in problems["services", 0, "disk"]
    grown = _ct(rootfs="local:100/vm-100-disk-0.raw,size=9G")
    assert _only(plan, _record(plan, web=100), grown).action == "keep"
    assert _only(larger, _record(plan, web=100), grown).action == "keep"


@pytest.mark.parametrize(
    ("state", "action", "work"), [("stopped", "drift", ("finish",)), ("paused", "drift", ("finish",))]
)
def test_a_guest_that_does_not_run(state: str, action: str, work: tuple[str, ...]) -> None:
    plan = _plan({"name": "web"})
    step = _only(plan, _record(plan, web=100), _ct(state=state))
    assert (step.action, step.work) == (action, work)
    assert state in step.reason


def test_a_guest_that_is_gone_is_made_anew() -> None:
    plan = _plan({"name": "web"})
    step = _only(plan, _record(plan, web=100))
    assert (step.action, step.vmid, step.work) == ("drift", 100, ("create", "finish"))
    assert "gone" in step.reason


def test_what_was_made_and_not_finished_is_finished() -> None:
    plan = _plan({"name": "web"})
    for state in ("made", "planned"):
        assert _only(plan, _record(plan, state, web=100), _ct()).work == ("finish",)
    assert _only(plan, _record(plan, "planned", web=100)).work == ("create", "finish")


def test_another_guest_with_the_vmid_is_not_taken_for_ours() -> None:
    plan = _plan({"name": "web"})
    stranger = _ct(name="other", tags="")
    assert _only(plan, _record(plan, web=100), stranger).work == ("create", "finish")
    # One that was made meanwhile under a vmid that was only chosen.
    assert _only(plan, _record(plan, "planned", web=100), _ct(name="other")).work == ("create", "finish")
    # Ours, renamed or without its tag by hand.
    assert _only(plan, _record(plan, web=100), _ct(tags="")).action == "drift"
    assert _only(plan, _record(plan, web=100), _ct(name="other", hostname="other")).action == "drift"


def test_what_cannot_be_changed_is_made_anew() -> None:
    plan, other = _plan({"name": "web"}), _plan({"name": "web", "os": "debian-13"})
    step = _only(other, _record(plan, web=100), _ct())
    assert (step.action, step.work) == ("replace", ("remove", "create", "finish"))
    assert [(one.key, one.present, one.wanted) for one in step.differences] == [("image", "debian-12", "debian-13")]
    secret = _plan({"name": "web", "user_data": "#cloud-config\npassword: hunter2\n"})
    shown = _only(secret, _record(plan, web=100), _ct()).model_dump_json()
    assert "hunter2" not in shown
    assert "user_data" in shown


def test_what_left_the_plan_is_removed() -> None:
    plan, both = _plan({"name": "web"}), _plan({"name": "web"}, {"name": "db"})
    found, _ = steps(plan, _orders(plan), _record(both, web=100, db=101), {100: _ct(), 101: _ct(101, "db")})
    assert [(one.guest, one.action, one.vmid) for one in found] == [("web", "keep", 100), ("db", "remove", 101)]


def test_a_name_that_a_foreign_guest_bears_is_refused_with_its_place() -> None:
    plan = _plan({"name": "db"}, {"name": "web"})
    _, problems = steps(plan, _orders(plan), None, {100: _ct()})
    assert list(problems) == [("services", 1, "name")]
    assert "CT 100" in problems["services", 1, "name"]


def test_instances_are_guests_of_their_own() -> None:
    plan = _plan({"name": "web", "instances": 3})
    found, _ = steps(plan, _orders(plan), None, {})
    assert [one.guest for one in found] == ["web-1", "web-2", "web-3"]


@pytest.mark.parametrize(
    ("services", "place", "words"),
    [
        ([{"name": "a", "memory": "900G"}], ("services", 0, "memory"), "more than this host has"),
        ([{"name": "a", "kind": "vm", "mounts": [{"path": "/m", "source": "/srv"}]}], ("services", 0, "mounts"),
         "in a container only"),
        ([{"name": "a", "kind": "vm", "image": "local:vztmpl/x.tar.zst"}], ("services", 0, "image"),
         "is a container's template"),
        ([{"name": "a", "image": "local:import/x.qcow2"}], ("services", 0, "image"), "VM's disk image"),
        ([{"name": "a", "instances": 2, "network": {"ip": "10.0.0.5/24"}}], ("services", 0, "network", "ip"), "share"),
        ([{"name": "a", "network": {"ip": "10.0.0.5/24"}}, {"name": "b", "network": {"ip": "10.0.0.5/16"}}],
         ("services", 1, "network", "ip"), "'a' has 10.0.0.5 already"),
    ],
)  # fmt: skip
def test_contradictions_are_told_by_their_place(services: list[dict[str, Any]], place: Any, words: str) -> None:
    plan = _plan(*services)
    found = contradictions(plan, _orders(plan), FACTS)
    assert list(found) == [place]
    assert words in found[place]


@pytest.mark.parametrize(
    ("text", "key", "words"),
    [
        ("name: lab\nservices:\n- name: a\n- name: b\n- name: a\n", "line 5: services[2].name", "stands twice"),
        ("name: lab\nservices:\n- name: a\n  instances: 2\n- name: a-2\n", "line 5: services[1].name", "service 'a'"),
        ("name: lab\nservices:\n- name: a\n  after: [b]\n- name: b\n  after: [c]\n- name: c\n  after: [a]\n",
         "line 4: services[0].after", "a after b after c after a"),
        ("name: lab\nservices:\n- name: a\n  after: [x]\n", "line 4: services[0].after", "no service of this plan"),
        ("name: lab\nservices:\n- name: a\n  memory: 512\n", "line 4: services[0].memory", "say the unit"),
        ("name: lab\nservices:\n- name: a\n  network:\n    gateway: 10.0.0.1\n",
         "line 5: services[0].network.gateway", "address of the guest's own"),
        ("name: lab\nservices:\n- name: a\n  mounts:\n  - path: /a/../b\n    size: 1G\n",
         "line 5: services[0].mounts[0].path", "not a folder to mount at"),
        ("name: lab\nservices:\n- name: a\n  colour: red\n", "line 4: services[0].colour", "not known"),
        ("name: lab\nservices: []\n", "line 2: services", "between 1 and"),
        ("- a\n", "plan", "mapping"),
    ],
)  # fmt: skip
def test_a_faulty_text_is_told_by_its_line(text: str, key: str, words: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        parse(text, Homelab, "plan")
    assert words in caught.value.errors[key]


def test_copies_are_plans_of_their_own() -> None:
    copy = _plan({"name": "web", "after": ["db"]}, {"name": "db"}).numbered(3)
    assert copy.name == "lab-3"
    assert [(one.name, one.after) for one in copy.services] == [("lab-3-web", ("lab-3-db",)), ("lab-3-db", ())]
    with pytest.raises(ValueError, match="longer than a host name"):
        _plan({"name": "w" * 60}).numbered(3)
    with pytest.raises(ValueError, match="is no host name"):
        _plan({"name": "web"}, name="my_lab+").numbered(1)


_TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(sorted(PlannedService.model_fields)), inner)
    ),
    max_leaves=8,
)


@settings(deadline=None)
@given(tree=_TREES, text=st.text(max_size=60))
def test_whatever_stands_in_a_file_is_a_plan_or_told_by_its_place(tree: Any, text: str) -> None:
    whole = yaml.safe_dump({"name": "lab", "services": [tree]}, allow_unicode=True)
    for one in (text, whole, f"name: lab\nservices:\n- name: a\n  {text}"):
        wrong: dict[str, str] = {}
        try:
            assert parse(one, Homelab, "plan").services
        except InvalidParameter as error:
            wrong = error.errors
        assert all(key == "plan" or key.startswith("line ") for key in wrong)


_NAMES = st.from_regex(r"[a-z][a-z0-9]{0,6}", fullmatch=True)


@settings(deadline=None)
@given(
    names=st.lists(_NAMES, min_size=1, max_size=6, unique=True),
    cores=st.integers(1, 8),
    memory=st.integers(1, 4096),
    disk=st.integers(1, 100_000),
    tag=st.none() | st.integers(1, 4094),
)
def test_a_guest_made_as_ordered_differs_in_nothing(
    names: list[str], cores: int, memory: int, disk: int, tag: int | None
) -> None:
    """Whatever is asked for: once the guests are as the orders say, there is nothing to do."""
    services = [
        {"name": name, "cores": cores, "memory": f"{memory}M", "disk": f"{disk}M", "network": {"tag": tag}}
        for name in names
    ]
    plan = _plan(*services)
    orders = _orders(plan)
    facts = {name: 100 + number for number, name in enumerate(names)}
    present = {}
    for name, vmid in facts.items():
        wanted = orders[name].wanted
        vlan = f",tag={tag}" if tag else ""
        present[vmid] = _ct(
            vmid, name, memory=wanted["memory"], cores=wanted["cores"],
            rootfs=f"local:{vmid}/x.raw,size={wanted['disk']}M",
            net0=f"name=eth0,bridge=vmbr0,ip=dhcp{vlan}",
        )  # fmt: skip
    found, problems = steps(plan, orders, _record(plan, **facts), present)
    assert problems == {}
    assert {one.action for one in found} == {"keep"}
    assert _record(plan, **facts) == PlanRecord.model_validate_json(_record(plan, **facts).model_dump_json())


def test_values_of_a_vm() -> None:
    config = {
        "name": "x", "memory": "2048", "cores": 2, "scsi0": "local:101/vm-101-disk-0.qcow2,discard=on,size=8G",
        "net0": "virtio=02:00:00:00:00:01,bridge=vmbr1,tag=7", "ipconfig0": "ip=10.0.0.5/24,gw=10.0.0.1", "tags": "b;a",
        "onboot": 1,
    }  # fmt: skip
    assert values("vm", config) == {
        "cores": 2, "memory": 2048, "disk": 8192, "bridge": "vmbr1", "tag": 7, "ip": "10.0.0.5/24",
        "gateway": "10.0.0.1", "tags": "a;b", "onboot": 1,
    }  # fmt: skip


def test_a_service_takes_the_keys_of_advise() -> None:
    one = PlannedService.model_validate({"name": "a", "service": "nginx", "exposure": "lan", "memory": "1G"})
    assert (one.service, one.guests) == ("nginx", ("a",))
