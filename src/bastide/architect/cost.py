"""What one guest takes on this host: from its own comparison, else from published figures."""

from bastide.architect import published
from bastide.model.advice import Cost, HostFacts
from bastide.model.comparison import Comparison, Measure, Side
from bastide.model.service import Choice


def cost(kind: Choice, host: HostFacts, comparison: Comparison | None) -> Cost:
    """The cost of one idle guest of a kind.

    Figures of emulated VMs are used on hosts without KVM alone, and marked.
    """
    side = comparison.side(kind) if comparison is not None else None
    if comparison is None or side is None or not side.figures or (side.emulated and host.kvm):
        return published.cost(kind, kvm=host.kvm)
    memory, disk = _median(side, "memory"), _median(side, "disk")
    emulated = ", VMs emulated without KVM" if side.emulated else ""
    return Cost(
        kind=kind,
        memory=None if memory is None else round(memory),
        disk=None if disk is None else round(disk),
        deploy=_median(side, "deploy"),
        start=_median(side, "start"),
        density=_median(side, "density"),
        cpu=_share(comparison, side),
        source="measured",
        taken=comparison.taken,
        note=f"an idle {comparison.image}, median of {comparison.runs} runs{emulated}",
        emulated=side.emulated,
    )


def _median(side: Side, measure: Measure) -> float | None:
    figure = side.figures.get(measure)
    return None if figure is None else figure.median


def _share(comparison: Comparison, side: Side) -> float | None:
    own, native = side.figures.get("cpu_single"), comparison.native.get("cpu_single")
    if own is None or native is None or native.median <= 0:
        return None
    return round(own.median / native.median, 3)
