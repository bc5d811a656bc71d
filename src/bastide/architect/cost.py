"""What one guest takes on this host: from its own comparison, else from published figures."""

from bastide.architect import published
from bastide.model.advice import Cost, HostFacts
from bastide.model.comparison import Comparison, Measure, Side
from bastide.model.service import Choice


def cost(kind: Choice, host: HostFacts, comparison: Comparison | None) -> Cost:
    """The cost of one idle guest of a kind.

    A comparison counts when it has the kind's idle memory: a guest that never came up has none. Figures of emulated VMs
    are used on hosts without KVM alone, and marked.
    """
    side = comparison.side(kind) if comparison is not None else None
    idle = side.figures.get("memory") if side is not None else None
    if comparison is None or side is None or idle is None or (side.emulated and host.kvm):
        return published.cost(kind, kvm=host.kvm)
    disk, runs = _median(side, "disk"), len(idle.values)
    emulated = ", VMs emulated without KVM" if side.emulated else ""
    return Cost(
        kind=kind,
        memory=round(idle.median),
        disk=None if disk is None else round(disk),
        deploy=_median(side, "deploy"),
        start=_median(side, "start"),
        density=_median(side, "density"),
        cpu=_share(comparison, side),
        source="measured",
        taken=comparison.taken,
        note=f"an idle {comparison.image}, {'one run' if runs == 1 else f'median of {runs} runs'}{emulated}",
        emulated=side.emulated,
    )


def _median(side: Side, measure: Measure) -> float | None:
    figure = side.figures.get(measure)
    return None if figure is None else figure.median


def _share(comparison: Comparison, side: Side) -> float | None:
    """The speed of one core. A container stands for a host that was not measured itself: no layer is between them."""
    own = side.figures.get("cpu_single")
    native = comparison.native.get("cpu_single") or comparison.ct.figures.get("cpu_single")
    if own is None or native is None or native.median <= 0:
        return None
    return round(own.median / native.median, 3)
