"""`capacity`: what still fits on this host, and which guest on which of several."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from bastide.base.errors import InvalidParameter, NotFound
from bastide.cli import completing, output
from bastide.cli.session import Session

_BAR = 30
_KINDS = {"ct": "containers", "vm": "VMs"}
_SIZE_LIMIT = 1024 * 1024


def capacity(
    ctx: typer.Context,
    service: Annotated[
        str | None,
        typer.Argument(
            metavar="SERVICE",
            help="How many of this catalog entry.",
            autocompletion=completing.services,
            show_default=False,
        ),
    ] = None,
    *,
    cores: Annotated[int | None, typer.Option(metavar="N", help="Size of a guest. Default: 1.")] = None,
    memory: Annotated[str | None, typer.Option(metavar="SIZE", help="Default: 512M.")] = None,
    disk: Annotated[str | None, typer.Option(metavar="SIZE", help="Default: 4G.")] = None,
    placement: Annotated[
        str | None,
        typer.Option(
            "--placement", metavar="FILE", help="Say which guest goes on which host, of a YAML file that lists both."
        ),
    ] = None,
) -> None:
    """Show what still fits on this host, of each kind, why no more, and when its storages are full."""
    session: Session = ctx.obj
    if placement is not None:
        _place(session, placement)
        return
    size = {"service": service, "cores": cores, "memory": memory, "disk": disk}
    found: dict[str, Any] = session.client().get("/architect/capacity", **size)
    if session.json:
        output.emit_json(found)
    else:
        _tell(found)


def _tell(found: dict[str, Any]) -> None:
    guests = found["guests"]
    output.line(output.styled(f"{found['node']}: {guests['ct']} containers, {guests['vm']} VMs", "1"))
    spaces = {storage["storage"]: storage["space"] for storage in found["storages"]}
    resources = {"cores": found["cores"], "memory": found["memory"], **spaces}
    width = max(map(len, resources))
    for name, resource in resources.items():
        _tell_resource(f"{name:<{width}}", resource, plain=name == "cores")
    output.line(f"{'':<{width}}  # used, = promised to guests, . free, - headroom")
    example = found["example"]
    output.line()
    sized = (
        f"{example['cores']} core, {output.size(example['memory'])} of memory, {output.size(example['disk'])} of disk"
    )
    output.line(output.styled(f"Room for more of {example['name']} ({sized})", "1"))
    for fit in found["fits"]:
        _tell_fit(fit)
    output.line()
    output.line(output.styled("When the storages are full", "1"))
    for storage in found["storages"]:
        output.line(f"  {storage['storage']:<{width}}  {storage['outlook']['sentence']}")
    for text in found["notes"]:
        output.note(f"note: {text}")


def _tell_resource(name: str, resource: dict[str, Any], *, plain: bool) -> None:
    def shown(amount: float) -> str:
        return f"{amount:.3g}" if plain else output.size(amount)

    words = f"{shown(resource['used'])} used, {shown(resource['promised'])} promised, {shown(resource['free'])} free"
    spared = f", {shown(resource['spared'])} headroom" if resource["spared"] else ""
    unit = " virtual processors" if plain else ""
    output.line(f"{name}  [{_bar(resource)}]  {words}{spared}, of {shown(resource['total'])}{unit}")


def _bar(resource: dict[str, Any]) -> str:
    total = max(1, int(resource["total"]))
    used = min(_BAR, round(_BAR * float(resource["used"]) / total))
    spared = min(_BAR - used, round(_BAR * int(resource["spared"]) / total))
    free = min(_BAR - used - spared, round(_BAR * int(resource["free"]) / total))
    return "#" * used + "=" * (_BAR - used - spared - free) + "." * free + "-" * spared


def _tell_fit(fit: dict[str, Any]) -> None:
    emulated = " (emulated)" if fit["emulated"] else ""
    output.line(f"  {fit['count']:>5} {_KINDS[fit['kind']]}{emulated}: {fit['why']}")
    if fit["idle"] is not None:
        cost = fit["cost"]
        source = f"{cost['source']} {cost['taken'][:10]}"
        each = f"{output.size(cost['memory'])} of memory each, {source}"
        output.line(f"        {fit['idle']} by memory alone if all are idle ({each})")


def _place(session: Session, file: str) -> None:
    from bastide.model import documents  # noqa: PLC0415 - pydantic's records and YAML cost what a listing need not pay
    from bastide.model.placement import PlacementProblem  # noqa: PLC0415

    text = _read(file)
    problem = documents.parse(text, PlacementProblem, "placement")
    found: dict[str, Any] = session.client().post("/architect/placement", problem.model_dump(mode="json"))
    if session.json:
        output.emit_json(found)
    elif found["assignment"] or not problem.guests:
        _tell_placement(found, problem.then)
    if found["status"] in ("infeasible", "unknown"):
        if not session.json:
            _tell_failure(found, problem.seconds)
        raise typer.Exit(1)


def _read(file: str) -> str:
    try:
        with sys.stdin.buffer if file == "-" else Path(file).open("rb") as source:
            data = source.read(_SIZE_LIMIT + 1)
    except FileNotFoundError:
        raise NotFound(f"file '{file}' does not exist") from None
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise InvalidParameter({"placement": "the file is not UTF-8 text"}) from None


def _tell_placement(found: dict[str, Any], then: str) -> None:
    moves = {move["guest"]: move["origin"] for move in found["moves"]}
    rows = sorted((host, guest) for guest, host in found["assignment"].items())
    output.table(
        [output.Column("host"), output.Column("guest"), output.Column("moves from")],
        [(host, guest, moves.get(guest, "")) for host, guest in rows],
    )
    output.line()
    least = f"at least {found['moves_bound']}"
    proven = "the fewest possible" if len(moves) == found["moves_bound"] else least
    output.line(f"moves: {len(moves)} ({proven})")
    what = "hosts in use" if then == "hosts" else "fullest host, % of memory"
    output.line(f"{what}: {found['score']:g} (at least {found['score_bound']:g}, gap {found['gap']:.1%})")
    output.line(f"{found['status']}, found in {found['seconds']:.1f} s")


def _tell_failure(found: dict[str, Any], seconds: float) -> None:
    if found["status"] == "unknown":
        output.note(f"no answer was found within {seconds:g} seconds: set `seconds` higher in the file, up to 60")
        return
    output.note("this cannot be placed:" if found["minimal"] else "this cannot be placed; among these are the causes:")
    for text in found["clashes"]:
        output.note(f"  {text}")
