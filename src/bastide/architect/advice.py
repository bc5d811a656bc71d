"""The architect's answer for one service: verdict, settings, size, cost, command and call, joined."""

import re

from bastide.architect import cost, request, sizing
from bastide.architect.needs import Needs, assumptions, gather
from bastide.architect.settings import Settled, Situation, container
from bastide.architect.settings_vm import vm
from bastide.architect.verdict import NAMES, Verdict, conflicts, decide, questions, turns
from bastide.model.advice import Advice, HostFacts
from bastide.model.catalog import CatalogEntry
from bastide.model.comparison import Comparison
from bastide.model.service import Choice, Service

_MOST_REASONS = 2  # in the summary


def advise(
    service: Service, entry: CatalogEntry | None, host: HostFacts, comparison: Comparison | None = None
) -> Advice:
    """Which kind of guest a service should be, how it is set up, how large, at what cost.

    `entry` is the catalog's entry that `service.service` means, `comparison` this host's last one. The same input gives
    the same words. Raises InvalidParameter, by key, for what contradicts itself or is impossible.
    """
    needs = gather(service, entry)
    verdict = decide(needs)
    size = sizing.size(service, entry, needs, verdict.kind, host)
    situation = Situation(needs, verdict.kind, size, host, entry)
    settled = container(situation) if verdict.kind == "ct" else vm(situation)
    name = name_of(service, entry, needs)
    title = service.name or (entry.title if entry is not None else service.service) or _anonymous(needs)
    installs = entry is not None and _installs(entry, needs)
    other: Choice | None = "vm" if verdict.kind == "ct" else "ct" if needs.containable else None
    if installs:
        usual = decide(gather(Service(), entry)).kind
        command = request.recipe_command(situation, service, name, usual)
    else:
        command = request.command(situation, name, settled.options)
    return Advice(
        name=name,
        title=entry.title if entry is not None else title,
        service=entry.name if entry is not None else service.service,
        os=needs.system.name,
        kind=verdict.kind,
        confidence=verdict.confidence,
        summary=_summary(title, needs, verdict),
        rules=verdict.told(verdict.kind),
        against=verdict.told("vm" if verdict.kind == "ct" else "ct"),
        unless=tuple(turn.sentence for turn in turns(service, entry, needs, verdict)),
        conflicts=conflicts(needs, verdict),
        assumed=assumptions(needs),
        questions=questions(service, entry, needs, verdict),
        warnings=(
            *_overruled(verdict),
            *_unknown(service, entry),
            *settled.warnings,
            *sizing.too_large(size, host),
            *_missing_image(situation),
        ),
        settings=settled.options,
        reasons=settled.reasons,
        sizing=size,
        cost=cost.cost(verdict.kind, host, comparison),
        cost_other=cost.cost(other, host, comparison) if other is not None else None,
        command=command,
        request=request.request(situation, name, settled.options),
        installs=installs,
        notes=_notes(situation, settled, installs=installs),
    )


def _anonymous(needs: Needs) -> str:
    linux = needs.system.family == "linux" and not needs.system.appliance
    return f"A {needs.system.title} service" if linux else needs.system.title


def name_of(service: Service, entry: CatalogEntry | None, needs: Needs) -> str:
    """The guest's name: the service's own, else its entry's or system's as a host name."""
    if service.name is not None:
        return service.name
    text = entry.name if entry is not None else service.service or needs.system.name
    return re.sub(r"[^a-z0-9]+", "-", text).strip("-") or "guest"


def _summary(title: str, needs: Needs, verdict: Verdict) -> str:
    decisive, drawn = verdict.decisive(), verdict.drawn()
    chosen = [one for one in decisive if one.rule.id != "ct-default"] if drawn else decisive
    reasons = [one.rule.reason.format(os=needs.system.title) for one in chosen]
    more = len(reasons) - _MOST_REASONS
    because = ", and ".join(reasons[:_MOST_REASONS]) + (f", and {more} more" if more > 0 else "")
    if drawn:
        others = ", and ".join(one.rule.reason for one in drawn)
        because += f"; as strong a reason speaks for a VM ({others}), and a draw is a container"
    if verdict.overruled:
        return (
            f"{title} will be a {NAMES[verdict.kind]} because that is asked for; the rules say "
            f"{NAMES[verdict.advised]}: {because}."
        )
    return f"{title} should be a {NAMES[verdict.kind]}: {because}."


def _installs(entry: CatalogEntry, needs: Needs) -> bool:
    return entry.recipe is not None and needs.system.name in entry.recipe.os and needs.containable


def _overruled(verdict: Verdict) -> list[str]:
    if not verdict.overruled:
        return []
    return [f"{one.rule.id}: {one.rule.statement} ({one.because})" for one in verdict.decisive()]


def _unknown(service: Service, entry: CatalogEntry | None) -> list[str]:
    if service.service is None or entry is not None:
        return []
    return [f"service: '{service.service}' is not in the catalog: only what is written down of it counts"]


def _missing_image(situation: Situation) -> list[str]:
    """What has to be there before the call: `bastide launch` gets images of Linux systems by itself."""
    system, vm_flag = situation.needs.system, " --vm" if situation.kind == "vm" else ""
    if request.image_of(situation) is not None:
        return []
    if system.image is not None:
        verb = "build" if system.name == system.image else "pull"
        return [
            f"image: this host has no image of {system.title} for a {NAMES[situation.kind]} yet: "
            f"bastide image {verb}{vm_flag} {system.image} (bastide launch does it by itself)"
        ]
    if system.disk_image:
        return [f"image: upload the disk image of {system.title} as {request.disk_image(situation)} first"]
    return [f"image: put the installer of {system.title} in place of ISO: a file, or STORAGE:iso/FILE"]


def _notes(situation: Situation, settled: Settled, *, installs: bool) -> tuple[str, ...]:
    entry, needs = situation.entry, situation.needs
    notes = list(entry.notes) if entry is not None else []
    notes += settled.notes
    if entry is not None and not installs:
        upstream = f": {entry.upstream}" if entry.upstream else ""
        notes.append(f"the guest is made, and {entry.title} is then installed as its makers say{upstream}")
    if needs.instances > 1:
        notes.append(f"make it {needs.instances} times, each with a name of its own, or write it into a plan")
    if situation.kind == "vm" and needs.system.image is not None:
        size = request.gibibytes(situation.sizing.disk)
        notes.append(
            "after the call, grow its disk from the image's size: PUT .../qemu/{vmid}/resize disk=scsi0 "
            f"size={size}G (bastide launch does it by itself)"
        )
    return tuple(notes)
