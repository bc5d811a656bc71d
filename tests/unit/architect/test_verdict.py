"""Properties that hold for every service: hard needs stay hard, order says nothing, what is told is true."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from bastide.architect import systems
from bastide.architect.advice import advise
from bastide.architect.needs import gather
from bastide.architect.rules import RULES
from bastide.architect.verdict import decide, questions, turns
from bastide.base.errors import InvalidParameter
from bastide.model.advice import Advice, HostFacts
from bastide.model.catalog import CatalogEntry
from bastide.model.service import Service

HOST = HostFacts(render=("/dev/dri/renderD128",))
SOURCE = Path(__file__).parents[3] / "src"

_TYPES = ("gpu", "pci", "usb", "serial", "disk", "tun", "fuse", "kvm", "sound")
_DEVICES = st.fixed_dictionaries(
    {"type": st.sampled_from(_TYPES)},
    optional={
        "mode": st.sampled_from(["whole", "shared", "node"]),
        "what": st.sampled_from(["/dev/ttyUSB0", "/dev/apex_0", "01:00.0", "1-4", "hba", "10c4:ea60"]),
    },
)
_KERNELS = st.fixed_dictionaries(
    {},
    optional={
        "own": st.booleans(),
        "version": st.just("5.4"),
        "modules": st.lists(st.sampled_from(["zfs", "wireguard", "nbd"]), max_size=3, unique=True),
        "parameters": st.just(["isolcpus=2"]),
        "tracing": st.booleans(),
    },
)
_NEEDS: dict[str, st.SearchStrategy[Any]] = {
    "os": st.sampled_from(["debian-12", "alpine-3.22", "windows-11", "freebsd-14", "opnsense", "proxmox-ve", "esxi"]),
    "exposure": st.sampled_from(["internet", "lan", "none"]),
    "isolation": st.sampled_from(["absolute", "normal"]),
    "tenants": st.sampled_from(["trusted", "untrusted"]),
    "untrusted_code": st.booleans(),
    "kernel": _KERNELS,
    "engine": st.sampled_from(["docker", "podman", "kubernetes", "none"]),
    "appliance": st.booleans(),
    "devices": st.lists(_DEVICES, max_size=4),
    "live_migration": st.booleans(),
    "nfs": st.sampled_from(["client", "server", "none"]),
    "nested_virtualization": st.booleans(),
    "instances": st.integers(1, 1000),
    "ephemeral": st.booleans(),
    "priority": st.sampled_from(["performance", "density", "isolation"]),
}
_ASKED = {
    "name": st.just("thing"),
    "service": st.just("some.thing+1"),
    "kind": st.sampled_from(["ct", "vm"]),
    "cores": st.integers(1, 512),
    "memory": st.sampled_from(["1M", "100M", "512M", "8G", "1025K", "1T"]),
    "disk": st.sampled_from(["1M", "1536M", "8G", "64G", "1T"]),
}
OPEN = st.fixed_dictionaries({}, optional=_NEEDS)
"""Services without a size and without a kind of their own."""

SERVICES = st.fixed_dictionaries({}, optional={**_NEEDS, **_ASKED})
_SIZE = {
    "minimum": {"cores": 1, "memory": "256M", "disk": "1G"},
    "usual": {"cores": 2, "memory": "1G", "disk": "8G"},
}
ENTRIES = st.none() | st.builds(
    lambda category, needs: CatalogEntry.model_validate({
        "name": "thing", "title": "Thing", "summary": "a thing", "category": category, "needs": needs, "size": _SIZE,
        "source": "made up", "state": "database",
    }),
    st.sampled_from(["web", "database", "media", "containers", "firewall"]),
    OPEN,
)  # fmt: skip

HARD = (
    {"os": "windows-11"},
    {"appliance": True},
    {"kernel": {"own": True}},
    {"kernel": {"version": "5.4"}},
    {"kernel": {"modules": ["zfs"]}},
    {"kernel": {"parameters": ["isolcpus=2"]}},
    {"kernel": {"tracing": True}},
    {"devices": [{"type": "pci", "what": "hba"}]},
    {"devices": [{"type": "gpu", "mode": "whole"}]},
    {"live_migration": True},
    {"tenants": "untrusted"},
    {"isolation": "absolute"},
)


def advice_or_reject(values: dict[str, Any], entry: CatalogEntry | None) -> Advice:
    try:
        return advise(Service.model_validate(values), entry, HOST)
    except InvalidParameter:
        assume(False)
        raise


@given(SERVICES, ENTRIES)
@settings(deadline=None)
def test_every_service_is_answered_or_told_which_key_is_wrong(values: dict[str, Any], entry: CatalogEntry) -> None:
    try:
        advice = advise(Service.model_validate(values), entry, HOST)
    except InvalidParameter as error:
        assert set(error.errors) <= set(Service.model_fields)  # noqa: PT017 - most services are answered
        return
    assert advice.rules
    assert all(rule.kind == advice.kind for rule in advice.rules)
    assert all(rule.kind != advice.kind for rule in advice.against)
    assert set(advice.settings) <= set(advice.reasons)


@pytest.mark.parametrize("need", HARD, ids=str)
@given(values=OPEN, entry=ENTRIES)
@settings(max_examples=20, deadline=None)
def test_a_hard_need_makes_a_vm_of_everything(
    need: dict[str, Any], values: dict[str, Any], entry: CatalogEntry
) -> None:
    advice_or_reject(values, entry)
    merged = {**values, **need}
    if "devices" in need:
        merged["devices"] = [*values.get("devices", []), *need["devices"]]
    try:
        advice = advise(Service.model_validate(merged), entry, HOST)
    except InvalidParameter as error:
        assert set(error.errors) == {"os"}  # noqa: PT017 - an entry of another system refuses Windows
        return
    assert advice.kind == "vm"
    assert advice.confidence == "certain"


@given(SERVICES, ENTRIES, st.randoms(use_true_random=False))
@settings(deadline=None)
def test_order_says_nothing(values: dict[str, Any], entry: CatalogEntry | None, random: Any) -> None:
    advice = advice_or_reject(values, entry)
    keys = list(values)
    random.shuffle(keys)
    mixed = {key: values[key] for key in keys}
    if "devices" in mixed:
        mixed["devices"] = random.sample(mixed["devices"], len(mixed["devices"]))
    if "modules" in mixed.get("kernel", {}):
        mixed["kernel"] = {
            **mixed["kernel"],
            "modules": random.sample(mixed["kernel"]["modules"], len(mixed["kernel"]["modules"])),
        }
    assert advise(Service.model_validate(mixed), entry, HOST).model_dump_json() == advice.model_dump_json()


@given(SERVICES, ENTRIES)
@settings(max_examples=150, deadline=None)
def test_what_would_turn_the_verdict_does(values: dict[str, Any], entry: CatalogEntry | None) -> None:
    advice = advice_or_reject(values, entry)
    service = Service.model_validate(values)
    needs = gather(service, entry)
    turned = turns(service, entry, needs, decide(needs))
    assert tuple(one.sentence for one in turned) == advice.unless
    for one in turned:
        changed = Service.model_validate({**service.model_dump(), **one.change})
        assert decide(gather(changed, entry)).kind != advice.kind, one.sentence


@given(OPEN)
@settings(deadline=None)
def test_a_linux_vm_is_told_how_it_would_be_a_container(values: dict[str, Any]) -> None:
    if advice_or_reject(values, None).kind == "vm":
        assert advice_or_reject(values, None).unless


@given(OPEN, ENTRIES)
@settings(deadline=None)
def test_questions_are_about_what_nobody_said(values: dict[str, Any], entry: CatalogEntry | None) -> None:
    advice_or_reject(values, entry)
    service = Service.model_validate(values)
    needs = gather(service, entry)
    for question in questions(service, entry, needs, decide(needs)):
        if question.key != "devices":
            assert question.key not in values
        assert question.assumed in (*question.choices, needs.system.name)


def test_the_strongest_reason_wins_whatever_stands_below() -> None:
    weak = {"instances": 9, "ephemeral": True, "priority": "density", "devices": [{"type": "tun"}, {"type": "fuse"}]}
    assert advise(Service.model_validate(weak), None, HOST).kind == "ct"
    assert advise(Service.model_validate({**weak, "exposure": "internet"}), None, HOST).kind == "vm"
    strong = [{"type": "gpu", "mode": "shared"}, {"type": "usb", "mode": "node", "what": "/dev/ttyUSB0"}]
    both = {**weak, "exposure": "internet", "devices": strong}
    assert advise(Service.model_validate(both), None, HOST).kind == "ct"
    assert advise(Service.model_validate({**both, "isolation": "absolute"}), None, HOST).kind == "vm"


def test_rules_are_told_apart() -> None:
    ids = [rule.id for rule in RULES]
    assert len(set(ids)) == len(ids)
    for rule in RULES:
        assert rule.id.startswith(f"{rule.kind}-")
        assert rule.statement.endswith(".")
        assert rule.strength != "hard" or rule.kind == "vm"
        assert (rule.lifted is not None) == bool(rule.lift) == (rule.kind == "vm")


@pytest.mark.parametrize("name", sorted(systems.SYSTEMS))
def test_only_linux_without_a_kernel_of_its_own_is_a_container(name: str) -> None:
    system = systems.SYSTEMS[name]
    advice = advise(Service(os=name), None, HOST)
    assert (advice.kind == "ct") == (system.family == "linux" and not system.appliance)
    assert (system.image is None) == (advice.kind == "vm")
    assert system.minimum.memory <= system.usual.memory
    assert system.minimum.disk <= system.usual.disk


_WORDS = """
import json, sys
from bastide.architect.advice import advise
from bastide.model.advice import HostFacts
from bastide.model.service import Service
print(advise(Service.model_validate(json.loads(sys.argv[1])), None, HostFacts()).model_dump_json())
"""


def test_another_process_says_the_same_words() -> None:
    service = {
        "os": "debian-12", "exposure": "internet", "engine": "docker", "priority": "density",
        "kernel": {"modules": ["zfs", "nbd", "wireguard"]},
        "devices": [{"type": "gpu"}, {"type": "usb", "what": "1-4"}, {"type": "tun"}, {"type": "pci", "what": "hba"}],
    }  # fmt: skip
    said = {
        subprocess.run(
            [sys.executable, "-c", _WORDS, json.dumps(service)],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(SOURCE)},
            check=True,
            capture_output=True,
            timeout=60,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert said == {advise(Service.model_validate(service), None, HostFacts()).model_dump_json().encode() + b"\n"}
