"""Needs to a kind: which rules fire, which strength decides, what would turn it, what lost.

The strongest strength at which the kinds differ decides: a hard rule beats everything, then the number of strong rules,
then that of weak ones; a draw is a container. A `kind` that is asked for overrules all but the impossible.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

from bastide.architect.needs import Hardware, Mode, Needs, gather, with_mode
from bastide.architect.rules import RULES, TURNS, Rule
from bastide.base.errors import InvalidParameter
from bastide.model.advice import Confidence, Fired, Question, Strength
from bastide.model.catalog import CatalogEntry
from bastide.model.service import Choice, Service

STRENGTHS: tuple[Strength, ...] = get_args(Strength)
"""From the strongest to the weakest."""

NAMES: Mapping[Choice, str] = {"ct": "container", "vm": "VM"}
"""How sentences call the kinds."""

_UNLESS = 4  # sentences; more would hide the relevant ones
_OTHER: Mapping[Choice, Choice] = {"ct": "vm", "vm": "ct"}


@dataclass(frozen=True, slots=True)
class Seen:
    """A rule that holds, and what it saw."""

    rule: Rule
    because: str

    def fired(self) -> Fired:
        """As the answer tells it."""
        rule = self.rule
        return Fired(id=rule.id, strength=rule.strength, kind=rule.kind, statement=rule.statement, because=self.because)


@dataclass(frozen=True, slots=True)
class Verdict:
    """`advised` is the kind by the rules alone, `kind` with what was asked. `seen` are all rules that hold."""

    kind: Choice
    advised: Choice
    confidence: Confidence
    seen: tuple[Seen, ...]
    strength: Strength
    """The strength that decided; of a draw, the weakest that any rule has."""

    @property
    def overruled(self) -> bool:
        """Whether what was asked is not what the rules advise."""
        return self.kind != self.advised

    def rules(self, kind: Choice) -> tuple[Seen, ...]:
        """The rules that hold for a kind, the strongest first."""
        mine = [one for one in self.seen if one.rule.kind == kind]
        return tuple(sorted(mine, key=lambda one: STRENGTHS.index(one.rule.strength)))

    def told(self, kind: Choice) -> tuple[Fired, ...]:
        """The rules for a kind as the answer tells them; a kind that overrules them is told first."""
        fired = tuple(one.fired() for one in self.rules(kind))
        return (_ASKED[kind], *fired) if self.overruled and kind == self.kind else fired

    def decisive(self) -> tuple[Seen, ...]:
        """The rules that the advised kind follows from: of the deciding strength, and stronger ones that drew."""
        mine = self.rules(self.advised)
        enough = STRENGTHS.index(self.strength)
        return tuple(one for one in mine if STRENGTHS.index(one.rule.strength) <= enough) or mine

    def drawn(self) -> tuple[Seen, ...]:
        """The strong rules of the other kind, where as many stand on each side."""
        if self.strength != "weak":
            return ()
        return tuple(one for one in self.seen if one.rule.kind != self.advised and one.rule.strength == "strong")


_ASKED: Mapping[Choice, Fired] = {
    kind: Fired(
        id="kind-asked", strength="strong", kind=kind, because=f"kind: {kind} (asked)",
        statement="The kind that is asked for overrules what the rules advise, unless it is impossible.",
    )
    for kind in NAMES
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Turned:
    """A change of a service that makes it the other kind, and the sentence that says so."""

    sentence: str
    change: Mapping[str, Any]


def decide(needs: Needs) -> Verdict:
    """The verdict. Raises InvalidParameter when `kind: ct` is asked and no container can do it."""
    seen = tuple(Seen(rule, because) for rule in RULES if (because := rule.test(needs)) is not None)
    advised, strength = _weigh(seen)
    if needs.kind == "ct":
        _refuse_impossible(needs, seen)
    kind = needs.kind or advised
    return Verdict(kind, advised, _confidence(seen) if kind == advised else "low", seen, strength)


def turns(service: Service, entry: CatalogEntry | None, needs: Needs, verdict: Verdict) -> tuple[Turned, ...]:
    """What would make the service the other kind: single changes, each tried out, else one of several together."""
    other = _OTHER[verdict.kind]
    if service.kind is not None:
        left = "`kind` were left open"
        return (_turned(other, left, {"kind": None}),) if verdict.overruled else ()
    found: list[Turned] = []
    for condition, change in _changes(needs, verdict):
        known = any(change == one.change for one in found)
        if not known and _becomes(service, entry, change) == other:
            found.append(_turned(other, condition, change))
    if found or verdict.kind == "ct":
        return tuple(found[:_UNLESS])
    return _together(service, entry, needs, verdict)


def questions(service: Service, entry: CatalogEntry | None, needs: Needs, verdict: Verdict) -> tuple[Question, ...]:
    """What nobody said and could change the verdict: each tried out."""
    if service.kind is not None:
        return ()
    found = []
    for asking in _QUESTIONS:
        if needs.origins[asking.key] != "assumed" or (asking.key == "os" and entry is not None):
            continue
        if any(_becomes(service, entry, {asking.key: value}) != verdict.kind for value in asking.tried):
            assumed = needs.system.name if asking.key == "os" else getattr(needs, asking.key)
            found.append(_question(asking, str(assumed).lower()))
    if any(one.assumed and one.type in _MODES for one in needs.devices):
        found += _mode_questions(service, entry, needs, verdict)
    return tuple(found)


def conflicts(needs: Needs, verdict: Verdict) -> tuple[str, ...]:
    """Which wish lost against which rule, and what was asked and cannot be had together."""
    texts = list(needs.quarrels)
    against = ", ".join(one.rule.id for one in verdict.decisive())
    if verdict.overruled:
        texts.append(f"kind: {verdict.kind} is asked, against {against}: the rules say {NAMES[verdict.advised]}")
    lost = {"performance": "vm", "density": "vm", "isolation": "ct"}.get(needs.priority or "")
    if lost == verdict.kind and not verdict.overruled:
        texts.append(f"priority: {needs.priority} is asked, and loses against {against}")
    if verdict.kind == "vm":
        texts += [
            f"devices: {one} cannot be had in a VM, which takes a device as a whole; the host and other guests lose it"
            for one in needs.devices
            if one.mode == "shared" and one.type not in ("tun", "fuse", "kvm")
        ]
    tied = [str(one) for one in needs.devices if one.type not in ("tun", "fuse", "kvm")]
    if needs.live_migration and tied:
        texts.append(f"live_migration: a guest that uses {', '.join(tied)} of this host cannot move while it runs")
    if needs.kernel.version is not None and needs.system.family != "linux":
        texts.append(f"kernel: version {needs.kernel.version} is asked, and {needs.system.title} brings its own kernel")
    return tuple(texts)


@dataclass(frozen=True, slots=True)
class _Asking:
    key: str
    question: str
    choices: tuple[str, ...]
    tried: tuple[Any, ...]


_SWITCH = ("true", "false")
_QUESTIONS = (
    _Asking("os", "Which operating system?", ("debian-12", "ubuntu-24.04", "windows-server-2025", "freebsd-14"),
            ("windows-server-2025",)),
    _Asking("exposure", "Who can reach it?", ("internet", "lan", "none"), ("internet", "none")),
    _Asking("engine", "Does it run in a container engine?", ("docker", "podman", "kubernetes", "none"), ("docker",)),
    _Asking("tenants", "Do all who use this host's guests trust each other?", ("trusted", "untrusted"),
            ("untrusted",)),
    _Asking("untrusted_code", "Does it run code of strangers?", _SWITCH, (True,)),
    _Asking("nfs", "Does it mount NFS shares by itself, or serve them?", ("client", "server", "none"), ("client",)),
    _Asking("nested_virtualization", "Does it run VMs inside?", _SWITCH, (True,)),
    _Asking("live_migration", "Must it move between hosts while it runs?", _SWITCH, (True,)),
)  # fmt: skip
_MODES: Mapping[str, str] = {
    "gpu": "Does it need the whole GPU, or is a render node enough that other guests use too?",
    "pci": "Does it need the whole PCI device, or does the host's driver serve it?",
    "usb": "Does it need the whole USB device, or its device node?",
    "disk": "Does it need the raw disk, or a file system on it?",
}


def _weigh(seen: tuple[Seen, ...]) -> tuple[Choice, Strength]:
    for strength in STRENGTHS:
        count = {kind: sum(one.rule.kind == kind and one.rule.strength == strength for one in seen) for kind in _OTHER}
        if count["ct"] != count["vm"]:
            return ("vm" if count["vm"] > count["ct"] else "ct"), strength
    return "ct", STRENGTHS[-1]


def _confidence(seen: tuple[Seen, ...]) -> Confidence:
    strong = {one.rule.kind for one in seen if one.rule.strength == "strong"}
    if any(one.rule.strength == "hard" for one in seen):
        return "certain"
    return "low" if len(strong) == 2 else "high" if strong else "moderate"


def _refuse_impossible(needs: Needs, seen: tuple[Seen, ...]) -> None:
    barred = next((one for one in seen if one.rule.bars), None)
    if barred is None:
        return
    why = barred.rule.reason.format(os=needs.system.title)
    fixed = barred.rule.id in ("vm-os", "vm-appliance") and "catalog" in (
        needs.origins["os"], needs.origins["appliance"] if needs.appliance else "",
    )  # fmt: skip
    lift = "" if fixed else f"; a container is possible if {barred.rule.lift}"
    raise InvalidParameter({
        "kind": f"ct is impossible, since {why} ({barred.because}): leave kind out or say vm{lift}"
    })  # fmt: skip


def _becomes(service: Service, entry: CatalogEntry | None, change: Mapping[str, Any]) -> Choice | None:
    """The kind of the changed service; None when the change contradicts the rest."""
    try:
        return decide(gather(service.model_copy(update=dict(change)), entry)).kind
    except InvalidParameter:
        return None


def _changes(needs: Needs, verdict: Verdict) -> list[tuple[str, Mapping[str, Any]]]:
    if verdict.kind == "vm":
        return [(one.rule.lift, one.rule.lifted(needs)) for one in verdict.rules("vm") if one.rule.lifted is not None]
    return [(turn.condition, turn.change(needs)) for turn in TURNS]


def _turned(kind: Choice, condition: str, change: Mapping[str, Any]) -> Turned:
    return Turned(f"It would be a {NAMES[kind]} if {condition}.", change)


def _together(service: Service, entry: CatalogEntry | None, needs: Needs, verdict: Verdict) -> tuple[Turned, ...]:
    """Lift one rule after the other, each change seen by the next, until the service is a container."""
    conditions: list[str] = []
    change: dict[str, Any] = {}
    current = needs
    for one in verdict.rules("vm"):
        if one.rule.lifted is None or one.rule.test(current) is None:
            continue
        conditions.append(one.rule.lift)
        change |= one.rule.lifted(current)
        try:
            current = gather(service.model_copy(update=change), entry)
        except InvalidParameter:
            return ()
        if decide(current).kind == "ct":
            return (_turned("ct", ", and ".join(conditions), change),)
    return ()


def _question(asking: _Asking, assumed: str) -> Question:
    return Question(key=asking.key, question=asking.question, choices=asking.choices, assumed=assumed)


def _mode_questions(service: Service, entry: CatalogEntry | None, needs: Needs, verdict: Verdict) -> list[Question]:
    """Whole or shared, for a device whose mode is open and whose other mode turns the verdict."""
    found = {}
    for one in needs.devices:
        if not one.assumed or one.type not in _MODES or one.type in found:
            continue
        other: Mode = "whole" if one.mode == "shared" else "shared"
        changed = {"devices": with_mode(needs.devices, other, one.type)}
        if _becomes(service, entry, changed) != verdict.kind:
            found[one.type] = Question(
                key="devices",
                question=_MODES[one.type],
                choices=(_device_text(one, "whole"), _device_text(one, "shared")),
                assumed=_device_text(one, one.mode),
            )
    return list(found.values())


def _device_text(device: Hardware, mode: Mode) -> str:
    """A device as text, `TYPE:MODE[:WHAT]`."""
    return f"{device.type}:{mode}" + (f":{device.what}" if device.what is not None else "")
