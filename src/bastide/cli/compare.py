"""`compare`: what the same system costs as a container and as a VM, measured on this host."""

import calendar
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bastide.base.errors import HostFailure, InvalidParameter
from bastide.cli import completing, output, progress
from bastide.cli.session import Session

if TYPE_CHECKING:
    from bastide.model.comparison import Comparison, Figure, Measure, Side

_PATH = "/architect/compare"
_FORMS = {".svg": "svg", ".png": "png"}


def compare(
    ctx: typer.Context,
    *,
    quick: Annotated[bool, typer.Option("--quick", help="In a few minutes, with less certainty.")] = False,
    runs: Annotated[
        int | None, typer.Option(metavar="N", help="Guests of each kind (default 3; one VM with --quick).")
    ] = None,
    chart: Annotated[str | None, typer.Option(metavar="FILE", help="Draw it as well: a .svg or .png file.")] = None,
    show: Annotated[bool, typer.Option("--show", help="Show the last one, measure nothing.")] = False,
    taken: Annotated[str | None, typer.Option(metavar="TIME", help="With --show: an earlier one.")] = None,
    image: Annotated[str, typer.Option(metavar="NAME", help="What both kinds are made from.")] = "debian-12",
    storage: Annotated[
        str, typer.Option(metavar="STORAGE", help="Where their disks go.", autocompletion=completing.storages)
    ] = "local",
    no_vm: Annotated[bool, typer.Option("--no-vm", help="Measure containers alone.")] = False,
) -> None:
    """Measure containers against VMs on this host: the same system in both.

    Guests are made, measured and removed again; the result is kept, and advice takes its costs from it.
    """
    session: Session = ctx.obj
    form = _form(chart)
    if taken is not None and not show:
        raise InvalidParameter({"taken": "goes with --show"})
    if not show:
        asked = {"quick": quick or None, "runs": runs, "image": image, "storage": storage, "vm": 0 if no_vm else None}
        _measure(session, {name: value for name, value in asked.items() if value is not None})
    answer = session.client().get(_PATH, **({} if taken is None else {"taken": taken}))
    if chart is not None:
        _draw(session, Path(chart), form, str(answer["taken"]))
    if session.json:
        output.emit_json(answer)
        return
    from bastide.model.comparison import Comparison  # noqa: PLC0415 - pydantic is heavy, and help needs none of it

    _show(Comparison.model_validate(answer))
    if chart is not None:
        output.line(f"Drawn in {chart}.")


def _form(chart: str | None) -> str:
    if chart is None:
        return "svg"
    form = _FORMS.get(Path(chart).suffix.lower())
    if form is None:
        raise InvalidParameter({"chart": f"'{chart}' ends neither with .svg nor with .png"})
    return form


def _measure(session: Session, asked: dict[str, Any]) -> None:
    upid = session.client().post(_PATH, asked)
    try:
        progress.follow(session, upid, "comparing", leave=False)
    except KeyboardInterrupt:
        output.note("removing what was made ...")
        progress.cancel(session, upid, deadline=120)
        raise


def _draw(session: Session, place: Path, form: str, taken: str) -> None:
    with session.client().download(f"{_PATH}/chart", {"format": form, "taken": taken}) as body:
        picture = b"".join(body.chunks)
    try:
        place.write_bytes(picture)
    except OSError as error:
        raise HostFailure(f"{place}: {error.strerror or error}") from error


def _show(comparison: "Comparison") -> None:
    emulated = comparison.vm is not None and comparison.vm.emulated
    output.line(output.styled(f"{comparison.image} on this host, {_when(comparison.taken)}", "1"))
    output.line()
    _table(comparison, vm="VM, emulated" if emulated else "VM")
    _facts(comparison)
    for name, side in (("CT", comparison.ct), ("VM", comparison.vm)):
        _missing(name, side)
    output.line()
    output.pairs(comparison.host)
    output.line()
    output.line("Median of the runs; (smallest - largest). Ratio: VM to CT.")
    if emulated:
        output.line("The VM was emulated: this host has no KVM. Its figures say nothing of VMs with KVM.")


def _table(comparison: "Comparison", *, vm: str) -> None:
    from bastide.model.comparison import LESS_IS_BETTER, TITLES  # noqa: PLC0415 - as above

    native = bool(comparison.native)
    titles = ["CT", *([vm, "ratio"] if comparison.vm else []), *(["host"] if native else []), "better"]
    columns = [output.Column("measure"), *(output.Column(one, "right") for one in titles)]
    rows = []
    for measure, title in TITLES.items():
        cells = [_cell(comparison.ct.figures.get(measure))]
        if comparison.vm is not None:
            cells += [_cell(comparison.vm.figures.get(measure)), _ratio(comparison, measure)]
        cells += [_cell(comparison.native.get(measure))] if native else []
        rows.append((title, *cells, "less" if measure in LESS_IS_BETTER else "more"))
    output.table(columns, rows)


def _cell(figure: "Figure | None") -> str:
    if figure is None:
        return "-"
    middle = figure.words(figure.median)
    if len(figure.values) == 1:
        return middle
    return f"{middle} ({figure.words(figure.low)} - {figure.words(figure.high)})"


def _ratio(comparison: "Comparison", measure: "Measure") -> str:
    ratio = comparison.ratio(measure)
    if ratio is None:
        return "-"
    return f"{ratio:.2g}x" if ratio < 10 else f"{ratio:,.0f}x"


def _facts(comparison: "Comparison") -> None:
    sides = [side for side in (comparison.ct, comparison.vm) if side is not None]
    for heading in ("isolation", "hardware"):
        names = list(dict.fromkeys(name for side in sides for name in getattr(side, heading)))
        if names:
            columns = [output.Column(heading), *(output.Column(side.kind.upper(), wrap=True) for side in sides)]
            output.line()
            output.table(
                columns, [(name, *(getattr(side, heading).get(name, "-") for side in sides)) for name in names]
            )


def _missing(name: str, side: "Side | None") -> None:
    reasons: dict[str, list[str]] = {}
    for measure, why in ({} if side is None else side.missing).items():
        reasons.setdefault(why, []).append(measure)
    for why, measures in reasons.items():
        what = ", ".join(measures) if side is not None and side.figures else "all"
        output.line(f"Not measured of the {name} ({what}): {why}")


def _when(taken: str) -> str:
    try:
        seconds = calendar.timegm(time.strptime(taken, "%Y-%m-%dT%H:%M:%SZ"))
    except ValueError:
        return taken
    return output.moment(seconds)
