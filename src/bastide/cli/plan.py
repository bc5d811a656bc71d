"""`plan`, `apply`, `destroy`: the services that a homelab.yaml lists."""

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from bastide.base.errors import InvalidParameter, NotFound, WrongState
from bastide.cli import output, progress
from bastide.cli.session import Session

T = TypeVar("T")

File = Annotated[str, typer.Argument(metavar="FILE", help="A homelab.yaml; - reads it from the input.")]
Copies = Annotated[int | None, typer.Option(metavar="N", help="As many separate environments: NAME-1, NAME-2 ...")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Print the task's UPID and return.")]

_MARKS = {"create": "+", "change": "~", "replace": "±", "keep": "=", "remove": "-", "drift": "!"}
_STYLES = {"create": "32", "change": "33", "replace": "1;31", "keep": "2", "remove": "31", "drift": "1;33"}
_WORDS = {
    "create": "to create", "change": "to change", "replace": "to make anew", "keep": "unchanged",
    "remove": "to remove", "drift": "changed by others",
}  # fmt: skip
_MIB = 1024**2


def plan(
    ctx: typer.Context,
    file: Annotated[str, typer.Argument(metavar="FILE", help="A homelab.yaml; - reads it from the input.")] = "",
    *,
    copies: Copies = None,
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON schema of such a file instead.")] = False,
) -> None:
    """Show what the architect decides for each service of a file, and what applying it would change.

    Without a file: the plans that were applied.

    + is created, ~ changed, - removed, = kept, ! was changed by hand, ± is made anew and loses its data.
    """
    session: Session = ctx.obj
    if schema:
        from bastide.model.homelab_schema import schema as made  # noqa: PLC0415 - with pydantic, for this option alone

        output.emit_json(made())
        return
    if not file:
        _list(session)
        return
    looks = _looks(session, file, copies)
    if session.json:
        output.emit_json(looks)
        return
    for look in looks:
        _show(look, decisions=True)


def apply(
    ctx: typer.Context,
    file: File,
    *,
    yes: Yes = False,
    prune: Annotated[bool, typer.Option("--prune", help="Remove guests that are not in the file any more.")] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Make guests anew that cannot be changed into what the file wants.")
    ] = False,
    copies: Copies = None,
    no_wait: NoWait = False,
) -> None:
    """Make the guests of a file, and change those that are not as it says.

    In the order of what comes after what, several at once. A second time changes nothing; what was interrupted is gone
    on with.
    """
    session: Session = ctx.obj
    text = _read(file)
    looks = _looks(session, file, copies, text)
    steps = [step for look in looks for step in look["steps"]]
    doomed = [step for step in steps if step["action"] == "replace" or (prune and step["action"] == "remove")]
    todo = [step for step in steps if step["work"] and (prune or step["action"] != "remove")]
    if not session.json:
        for look in looks:
            _show(look, decisions=False)
    if doomed and replace | prune and not yes and not session.interactive:
        raise WrongState(f"{_names(doomed)} would lose their data: add --yes if that is meant")
    if todo and session.interactive and not yes and not typer.confirm("Apply this?", default=True, err=True):
        raise typer.Exit(1)
    params = {"text": text, "copies": copies, "prune": prune or None, "replace": replace or None}
    upid = _named(file, lambda: session.client().post("/architect/apply", params))
    if not session.json and no_wait:
        output.line(str(upid))
    progress.finish(session, upid, f"applying {looks[0]['name']}", no_wait=no_wait)
    if session.json:
        output.emit_json({"upid": upid, "changes": len(todo), "plans": _known(session, [x["name"] for x in looks])})
    elif not no_wait:
        _tell(session, [look["name"] for look in looks], len(todo))


def destroy(
    ctx: typer.Context,
    what: Annotated[str, typer.Argument(metavar="FILE|NAME", help="A homelab.yaml, or the name of a plan.")],
    *,
    yes: Yes = False,
    copies: Copies = None,
    no_wait: NoWait = False,
) -> None:
    """Remove all guests of a plan with their disks.

    Asks first; without a terminal --yes is needed.
    """
    session: Session = ctx.obj
    names = _plan_names(what, copies)
    plans = _known(session, names)
    if not plans:
        raise NotFound(f"no such plan '{names[0]}': it has no guests here")
    guests = [guest for row in plans for guest in row["guests"]]
    if not yes:
        for guest in guests:
            _guest_line("remove", guest["name"], guest["kind"], guest["vmid"], guest["status"], to_stderr=True)
        if not session.interactive:
            raise WrongState(f"{_names(guests)} would be removed with their disks: add --yes if that is meant")
        if not typer.confirm(f"Remove {_count(len(guests), 'guest')} with their disks?", err=True):
            raise typer.Exit(1)
    params = {"name": names[0] if copies is None else _base(what), "copies": copies}
    upid = session.client().post("/architect/destroy", params)
    progress.finish(session, upid, f"removing {names[0]}", no_wait=no_wait)
    if session.json:
        output.emit_json({"upid": upid, "removed": [guest["name"] for guest in guests]})
    else:
        output.line(str(upid) if no_wait else f"removed {_count(len(guests), 'guest')}")


def _read(file: str) -> str:
    from bastide.model.documents import TEXT_LIMIT  # noqa: PLC0415 - with pydantic

    try:
        if file == "-":
            data = sys.stdin.buffer.read(TEXT_LIMIT + 1)
        else:
            with Path(file).expanduser().open("rb") as opened:
                data = opened.read(TEXT_LIMIT + 1)
        text = data.decode()
    except UnicodeDecodeError:
        raise InvalidParameter({file: "is not text in UTF-8"}) from None
    if len(data) > TEXT_LIMIT:
        raise InvalidParameter({file: f"is longer than {TEXT_LIMIT >> 20} MiB"})
    if not text.strip():
        raise InvalidParameter({file: "is empty"})
    return text


def _named(file: str, act: Callable[[], T]) -> T:
    """Act; errors that name a line of the text name its file too."""
    try:
        return act()
    except InvalidParameter as error:
        told = {f"{file}: {key}" if key.startswith("line ") else key: why for key, why in error.errors.items()}
        raise InvalidParameter(told) from None


def _looks(session: Session, file: str, copies: int | None, text: str | None = None) -> list[dict[str, Any]]:
    params = {"text": text or _read(file), "copies": copies}
    found: list[dict[str, Any]] = _named(file, lambda: session.client().post("/architect/plan", params))
    return found


def _known(session: Session, names: Iterable[str]) -> list[dict[str, Any]]:
    wanted = set(names)
    return [row for row in session.client().get("/architect/plans") if row["name"] in wanted]


def _base(what: str) -> str:
    if not _is_file(what):
        return what
    from bastide.model.documents import parse  # noqa: PLC0415 - with pydantic
    from bastide.model.homelab import Homelab  # noqa: PLC0415

    text = _read(what)
    return _named(what, lambda: parse(text, Homelab, "plan")).name


def _plan_names(what: str, copies: int | None) -> list[str]:
    name = _base(what)
    return [name] if copies is None else [f"{name}-{number}" for number in range(1, copies + 1)]


def _is_file(what: str) -> bool:
    return what == "-" or "/" in what or what.endswith((".yaml", ".yml")) or Path(what).is_file()


def _list(session: Session) -> None:
    """Print the plans that were applied."""
    plans: list[dict[str, Any]] = session.client().get("/architect/plans")
    if session.json:
        output.emit_json(plans)
        return
    columns = [output.Column("plan"), output.Column("guests", wrap=True), output.Column("task")]
    rows = [(row["name"], _states(row["guests"]), row["task"]) for row in plans]
    output.table(columns, rows, empty=f"no plans; make one with: bastide apply{session.root_option} homelab.yaml")


def _states(guests: list[dict[str, Any]]) -> str:
    return ", ".join(f"{guest['name']} ({guest['status']})" for guest in guests)


def _show(look: dict[str, Any], *, decisions: bool) -> None:
    """Print a plan's steps as a diff, with what was decided for what is new."""
    counts = {action: sum(step["action"] == action for step in look["steps"]) for action in _MARKS}
    told = ", ".join(f"{count} {_WORDS[action]}" for action, count in counts.items() if count)
    print(f"{output.styled(look['name'], '1')}: {output.clean(told)}")
    decided = {row["service"]: row for row in look["decisions"]}
    for step in look["steps"]:
        row = decided.get(step["service"])
        new = row is not None and step["action"] != "drift" and "create" in step["work"]
        about = _sizes(row) if row is not None and new else ""
        _guest_line(step["action"], step["guest"], step["kind"], step["vmid"], about or step["reason"])
        for item in step["differences"]:
            when = "  (at the next start)" if item["restart"] else ""
            print(f"      {item['key']}: {_value(item, 'present')} -> {_value(item, 'wanted')}{when}")
        if about and step["action"] == "replace":
            print(f"      {output.clean(step['reason'])}")
    touched = {step["service"] for step in look["steps"] if step["action"] != "keep"}
    for row in look["decisions"]:
        if not decisions and row["service"] not in touched:
            continue
        if decisions:
            print(output.clean(f"  {row['service']}: {row['kind'].upper()}, {row['confidence']}: {row['reason']}"))
        for warning in row["warnings"]:
            print("  " + output.styled(f"line {row['line']}: {row['service']}: {warning}", "33"))


def _guest_line(action: str, name: str, kind: str, vmid: int | None, about: str, *, to_stderr: bool = False) -> None:
    text = f"{_MARKS[action]} {name:<24} {kind.upper()} {vmid or '':<6} {about}".rstrip()
    if to_stderr:
        output.note(text)
    else:
        print(f"  {output.styled(text, _STYLES[action])}")


def _sizes(row: dict[str, Any]) -> str:
    cores = "1 core" if row["cores"] == 1 else f"{row['cores']} cores"
    sizes = f"{cores}, {output.size(row['memory'])} memory, {output.size(row['disk'])} disk"
    return f"{row['os']}, {sizes}{', ' + row['title'] if row['installs'] else ''}"


def _value(item: dict[str, Any], side: str) -> str:
    value = item[side]
    if value is None or value == "":
        return "none"
    if item["key"] in ("memory", "disk"):
        return output.size(int(value) * _MIB)
    return output.clean(str(value))


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def _names(rows: list[dict[str, Any]]) -> str:
    names = [str(row.get("name") or row.get("guest")) for row in rows]
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more


def _tell(session: Session, names: list[str], changes: int) -> None:
    """Where the guests of the plans can be reached now."""
    addresses = {int(row["vmid"]): row.get("addresses") or [] for row in session.client().get("/bastide/guests")}
    columns = [
        output.Column("guest"),
        output.Column("kind"),
        output.Column("id", "right"),
        output.Column("status"),
        output.Column("address"),
    ]
    rows = [
        (guest["name"], guest["kind"].upper(), guest["vmid"], guest["status"],
         next(iter(addresses.get(int(guest["vmid"]), [])), ""))
        for row in _known(session, names)
        for guest in row["guests"]
    ]  # fmt: skip
    if changes:
        output.table(columns, rows)
    output.line(_count(changes, "change"))
