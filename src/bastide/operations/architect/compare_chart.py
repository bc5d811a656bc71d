"""A comparison as a picture: one small chart a measure, the same colours for the same kinds everywhere.

Drawn by matplotlib in a process of its own, so that the daemon stays as small as it was. The same comparison gives the
same bytes.
"""

import json
import sys
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

from bastide.base.errors import HostFailure
from bastide.base.layout import Layout
from bastide.host.run import run
from bastide.model.comparison import LESS_IS_BETTER, TITLES, Comparison, Figure, Measure

Form = Literal["svg", "png"]

MEDIA_TYPES: dict[Form, str] = {"svg": "image/svg+xml", "png": "image/png"}

_SOURCE = str(Path(__file__).parents[3])
_HELPER = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); "
    "from bastide.operations.architect.compare_chart import main; main()"
)
_DEADLINE = 120.0
_COLUMNS = 4
_COLOURS = {"CT": "#1f7a8c", "VM": "#d1603d", "host": "#8d99ae"}
_INK, _FAINT = "#222831", "#6b7280"
_DPI = 110
_HEAD, _ROW = 0.75, 1.6  # inches


async def chart(layout: Layout, comparison: Comparison, form: Form) -> bytes:
    """The picture's bytes. Raises HostFailure."""
    folder = layout.runtime / "matplotlib"  # matplotlib keeps what it found out about fonts there
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    argv = [sys.executable, "-I", "-c", _HELPER, _SOURCE, form]
    drawn = await run(
        argv, input=comparison.model_dump_json().encode(), env={"MPLCONFIGDIR": str(folder)}, deadline=_DEADLINE
    )
    if not drawn.stdout:
        raise HostFailure("the chart came out empty")
    return drawn.stdout


def main() -> None:
    """Draw the comparison that comes as JSON on standard input, in the form that the first argument names."""
    form: Form = "svg" if sys.argv[1] == "svg" else "png"
    sys.stdout.buffer.write(draw(Comparison.model_validate(json.load(sys.stdin)), form))


def draw(comparison: Comparison, form: Form) -> bytes:
    """The picture's bytes."""
    import matplotlib as mpl  # noqa: PLC0415 - heavy, and of use here alone

    mpl.use("svg" if form == "svg" else "agg")
    from matplotlib import pyplot  # noqa: PLC0415

    mpl.rcParams |= {
        "svg.hashsalt": "bastide", "svg.fonttype": "none", "font.family": "DejaVu Sans", "font.size": 9,
        "text.color": _INK, "axes.labelcolor": _INK,
    }  # fmt: skip
    shown = [measure for measure in TITLES if _bars(comparison, measure)]
    rows = max(1, -(-len(shown) // _COLUMNS))
    figure, axes = pyplot.subplots(rows, _COLUMNS, figsize=(13.5, _HEAD + _ROW * rows), squeeze=False)
    places = [place for row in axes for place in row]
    for place, measure in zip(places, shown, strict=False):
        _one(place, comparison, measure)
    for place in places[len(shown) :]:
        place.axis("off")
    head = _HEAD / (_HEAD + _ROW * rows)
    figure.suptitle(title(comparison), x=0.012, y=1 - head * 0.2, ha="left", va="top", fontsize=13, fontweight="bold")
    figure.text(0.012, 1 - head * 0.66, _caption(comparison), ha="left", va="top", fontsize=8.5, color=_FAINT)
    figure.tight_layout(rect=(0, 0, 1, 1 - head), w_pad=2.2, h_pad=1.4)
    target = BytesIO()
    figure.savefig(target, format=form, dpi=_DPI, metadata={"Date": None} if form == "svg" else {"Software": None})
    pyplot.close(figure)
    return target.getvalue()


def title(comparison: Comparison) -> str:
    """The picture's heading; says `emulated` where the VM was."""
    if comparison.vm is None:
        return f"{comparison.image} as a container"
    emulated = " (VM emulated, without KVM)" if comparison.vm.emulated else ""
    return f"{comparison.image} as a container and as a VM{emulated}"


def _caption(comparison: Comparison) -> str:
    parts = [comparison.taken, comparison.host.get("processor", ""), f"kernel {comparison.host.get('kernel', '?')}"]
    return "  ·  ".join([part for part in parts if part] + ["bars: median, lines: smallest to largest"])


def _bars(comparison: Comparison, measure: Measure) -> list[tuple[str, Figure]]:
    vm = None if comparison.vm is None else comparison.vm.figures.get(measure)
    found = {"CT": comparison.ct.figures.get(measure), "VM": vm, "host": comparison.native.get(measure)}
    return [(name, figure) for name, figure in found.items() if figure is not None]


def _one(place: Any, comparison: Comparison, measure: Measure) -> None:
    """One measure's bars, the first at the top."""
    bars = _bars(comparison, measure)
    most = max(figure.high for _, figure in bars)
    for row, (name, figure) in enumerate(bars):
        place.barh(row, figure.median, height=0.62, color=_COLOURS[name])
        if len(figure.values) > 1:
            place.plot([figure.low, figure.high], [row, row], color=_INK, linewidth=1.1, solid_capstyle="butt")
        place.text(figure.high + most * 0.03, row, figure.words(figure.median), va="center", ha="left", fontsize=8.5)
    emulated = comparison.vm is not None and comparison.vm.emulated
    names = [f"{name}\nemulated" if name == "VM" and emulated else name for name, _ in bars]
    place.set_yticks(range(len(bars)), names, fontsize=8.5)
    place.set_ylim(len(bars) - 0.4, -0.6)
    place.set_xlim(0, most * 1.42)
    place.set_xticks([])
    place.tick_params(length=0)
    for edge in ("top", "right", "bottom"):
        place.spines[edge].set_visible(False)
    place.spines["left"].set_color(_FAINT)
    better = "less is better" if measure in LESS_IS_BETTER else "more is better"
    place.set_title(TITLES[measure], loc="left", fontsize=9.5, fontweight="bold", pad=14)
    place.text(0, 1.02, better, transform=place.transAxes, fontsize=7.5, color=_FAINT, va="bottom")
