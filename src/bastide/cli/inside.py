"""`exec` and `console`: commands and terminals in a guest. Nothing heavy is imported: `exec` shall feel local."""

import os
from typing import Annotated

import typer

from bastide.base.errors import BastideError, InvalidParameter, NotFound, NotSupported, WrongState
from bastide.cli import completing, output, terminal
from bastide.cli.lazy import command_settings
from bastide.cli.session import Session
from bastide.client import websocket

Guest = Annotated[
    str, typer.Argument(metavar="GUEST", help="Name or id.", autocompletion=completing.guests, show_default=False)
]
_LOGIN = ["su", "-l"]


@command_settings(
    context_settings={"allow_interspersed_args": False},
    epilog="Options stand before the guest's name; all after it is the command. Ends with the command's exit code.",
)
def exec_(
    ctx: typer.Context,
    guest: Guest,
    command: Annotated[
        list[str] | None, typer.Argument(metavar="COMMAND", help="Without one, a login shell of root.")
    ] = None,
    *,
    tty: Annotated[
        bool | None,
        typer.Option("--tty/--no-tty", "-t/-T", help="With a terminal. Default: when this is one.", show_default=False),
    ] = None,
    cwd: Annotated[str | None, typer.Option(metavar="DIR", help="Folder in the guest to run in.")] = None,
    env: Annotated[list[str] | None, typer.Option("--env", "-e", metavar="NAME=VALUE", help="May be repeated.")] = None,
    no_stdin: Annotated[bool, typer.Option("--no-stdin", "-n", help="Do not read standard input.")] = False,
) -> None:
    """Run a command in a guest.

    A VM's guest agent runs it: all of the input first, and without a terminal.
    """
    session: Session = ctx.obj
    words = list(command or ())
    if words[:1] == ["--"]:
        words = words[1:]
    with_tty = terminal.is_terminal() if tty is None else tty

    def params(tty: bool) -> list[tuple[str, str]]:
        found = [("command", word) for word in words or _LOGIN]
        found += [("env", text) for text in _environment(env or (), tty)]
        return [*found, ("cwd", cwd)] if cwd else found

    use_stdin = not no_stdin
    if not with_tty and use_stdin and terminal.input_is_terminal():
        # What is typed would be waited for to its end before the command of a VM begins.
        use_stdin = session.guest(guest).type != "qemu"
    try:
        code = _join(session, guest, "exec", params(with_tty), tty=with_tty, use_stdin=use_stdin)
    except NotSupported as error:
        if not with_tty or "terminal" not in str(error):
            raise
        if tty or not words:
            raise NotSupported(
                f"{guest} is a VM, whose guest agent has no terminals: use bastide console{session.root_option} "
                f"{guest}, or give a command without -t"
            ) from None
        code = _join(session, guest, "exec", params(False), tty=False, use_stdin=False)
    if code:
        raise typer.Exit(code)


def console(
    ctx: typer.Context,
    guest: Guest,
    serial: Annotated[
        int | None, typer.Option(metavar="N", help="A VM's serial port. Default: its first.", show_default=False)
    ] = None,
) -> None:
    """Attach to a guest's console; a VM's is its serial port.

    Ctrl+a q leaves it; Ctrl+a Ctrl+a types Ctrl+a.
    """
    session: Session = ctx.obj
    if not terminal.is_terminal():
        raise typer.BadParameter("a console needs a terminal; for a single command use: bastide exec GUEST -- COMMAND")
    output.note(f"console of {guest}: press Enter for a prompt, Ctrl+a q to leave")
    params = [] if serial is None else [("serial", str(serial))]
    try:
        code = _join(session, guest, "console", params, tty=True, escape=True)
    except BastideError as error:
        if "serial interface" in str(error):
            raise WrongState(f"{error}\n{_without_serial(session, guest)}") from None
        raise
    if code == terminal.DETACHED:
        output.note("")  # the guest's prompt stands where the cursor is
        return
    if code:
        raise typer.Exit(code)


def _without_serial(session: Session, guest: str) -> str:
    root = session.root_option
    return (
        f"add one: bastide set{root} {guest} serial0=socket; or look at its screen: bastide screenshot{root} {guest}, "
        "or VNC by the API's vncproxy"
    )


def _join(
    session: Session,
    guest: str,
    what: str,
    params: list[tuple[str, str]],
    *,
    tty: bool,
    use_stdin: bool = True,
    escape: bool = False,
) -> int:
    from urllib.parse import quote  # noqa: PLC0415 - imported by Typer already

    if not guest or "/" in guest:
        raise NotFound(f"guest '{guest}' does not exist")
    if what == "exec":
        params = [*params, ("tty", str(int(tty)))]
    if tty:
        columns, rows = terminal.window()
        params += [("cols", str(columns)), ("rows", str(rows))]
    joined = websocket.connect(session.transport(), f"/bastide/guests/{quote(guest, safe='')}/{what}", params)
    try:
        return terminal.run(joined, tty=tty, use_stdin=use_stdin, escape=escape)
    finally:
        joined.close()


def _environment(texts: list[str] | tuple[str, ...], tty: bool) -> list[str]:
    for text in texts:
        if not text.partition("=")[1] or text.startswith("="):
            raise InvalidParameter({"env": f"'{text[:60]}' is not NAME=VALUE"})
    names = {text.partition("=")[0] for text in texts}
    kind = os.environ.get("TERM")
    return [*texts, f"TERM={kind}"] if tty and kind and "TERM" not in names else list(texts)
