"""The command line: `main` reads the arguments, runs one command and turns errors into exit codes."""

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from typer.core import TyperOption

from bastide import __version__
from bastide.base.errors import BastideError, HostFailure
from bastide.cli import errors
from bastide.cli.lazy import LazyGroup, lighten
from bastide.cli.session import Session

if TYPE_CHECKING:
    from bastide.cli.hosting import Host

PROGRAM = "bastide"

_HOST, _GUESTS, _INSIDE, _MORE = "This host", "Guests", "Inside a guest", "Around them"
_ARCHITECT, _COPIES, _BACKUPS = "The architect", "Disks, snapshots and copies of guests", "Backups"

COMMANDS = {
    "up": ("bastide.cli.host:up", _HOST),
    "down": ("bastide.cli.host:down", _HOST),
    "status": ("bastide.cli.host:status", _HOST),
    "doctor": ("bastide.cli.host:doctor", _HOST),
    "launch": ("bastide.cli.launch:launch", _GUESTS),
    "ls": ("bastide.cli.guests:ls", _GUESTS),
    "start": ("bastide.cli.guests:start", _GUESTS),
    "stop": ("bastide.cli.guests:stop", _GUESTS),
    "shutdown": ("bastide.cli.guests:shutdown", _GUESTS),
    "reboot": ("bastide.cli.guests:reboot", _GUESTS),
    "reset": ("bastide.cli.guests:reset", _GUESTS),
    "suspend": ("bastide.cli.guests:suspend", _GUESTS),
    "resume": ("bastide.cli.guests:resume", _GUESTS),
    "rm": ("bastide.cli.guests:rm", _GUESTS),
    "config": ("bastide.cli.configure:config", _GUESTS),
    "set": ("bastide.cli.configure:set_", _GUESTS),
    "cloudinit": ("bastide.cli.cloudinit:cloudinit", _GUESTS),
    "resize": ("bastide.cli.volumes:resize", _COPIES),
    "move": ("bastide.cli.volumes:move", _COPIES),
    "snapshot": ("bastide.cli.snapshots:snapshot", _COPIES),
    "rollback": ("bastide.cli.snapshots:rollback", _COPIES),
    "clone": ("bastide.cli.copies:clone", _COPIES),
    "template": ("bastide.cli.copies:template", _COPIES),
    "backup": ("bastide.cli.backups:backup", _BACKUPS),
    "backups": ("bastide.cli.backup_checks:app", _BACKUPS),
    "restore": ("bastide.cli.backups:restore", _BACKUPS),
    "restore-file": ("bastide.cli.restore_file:restore_file", _BACKUPS),
    "exec": ("bastide.cli.inside:exec_", _INSIDE),
    "console": ("bastide.cli.inside:console", _INSIDE),
    "push": ("bastide.cli.files:push", _INSIDE),
    "pull": ("bastide.cli.files:pull", _INSIDE),
    "screenshot": ("bastide.cli.screen:screenshot", _INSIDE),
    "sendkey": ("bastide.cli.screen:sendkey", _INSIDE),
    "monitor": ("bastide.cli.screen:monitor", _INSIDE),
    "advise": ("bastide.cli.advise:advise", _ARCHITECT),
    "catalog": ("bastide.cli.catalog:catalog", _ARCHITECT),
    "compare": ("bastide.cli.compare:compare", _ARCHITECT),
    "capacity": ("bastide.cli.capacity:capacity", _ARCHITECT),
    "plan": ("bastide.cli.plan:plan", _ARCHITECT),
    "apply": ("bastide.cli.plan:apply", _ARCHITECT),
    "destroy": ("bastide.cli.plan:destroy", _ARCHITECT),
    "review": ("bastide.cli.review:review", _ARCHITECT),
    "image": ("bastide.cli.images:app", _MORE),
    "storage": ("bastide.cli.storage:app", _MORE),
    "disks": ("bastide.cli.disks:app", _MORE),
    "task": ("bastide.cli.tasks:app", _MORE),
    "user": ("bastide.cli.access:users", _MORE),
    "token": ("bastide.cli.access:tokens", _MORE),
    "realm": ("bastide.cli.realms:app", _MORE),
    "group": ("bastide.cli.rights:groups", _MORE),
    "role": ("bastide.cli.rights:roles", _MORE),
    "acl": ("bastide.cli.rights:acl", _MORE),
    "audit": ("bastide.cli.audit:audit", _MORE),
    "record": ("bastide.cli.records:app", _MORE),
    "api": ("bastide.cli.raw:api", _MORE),
    "completion": ("bastide.cli.completion:completion", _MORE),
}


class BastideGroup(LazyGroup):
    """The commands of Bastide; errors of the tree end the run with their exit code."""

    table = COMMANDS

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override]
        """Run the command."""
        session: Session = ctx.obj
        try:
            return super().invoke(ctx)
        except BastideError as error:
            raise typer.Exit(errors.report(error, session.root_option)) from None
        except BrokenPipeError:
            raise  # whoever read our output went away: Typer ends quietly
        except OSError as error:
            raise typer.Exit(
                errors.report(HostFailure(f"{error.filename or 'output'}: {error.strerror or error}"))
            ) from None
        except KeyboardInterrupt:
            sys.stderr.write("interrupted\n")
            raise typer.Exit(errors.INTERRUPTED) from None
        finally:
            session.close()


def _set_root(ctx: typer.Context, value: str | None) -> str | None:
    if value is not None:
        ctx.find_root().obj.root = value
    return value


def _set_json(ctx: typer.Context, value: bool) -> bool:
    if value:
        ctx.find_root().obj.json = True
    return value


def _print_version(value: bool) -> None:
    if value:
        print(f"bastide {__version__}")
        raise typer.Exit


_Root = Annotated[
    str | None,
    typer.Option(
        "--root",
        metavar="DIR",
        callback=_set_root,
        help="The Bastide below this folder, instead of the machine's own. Also: BASTIDE_ROOT.",
        rich_help_panel="Everywhere",
    ),
]
_Json = Annotated[bool, typer.Option("--json", callback=_set_json, help="Print JSON.", rich_help_panel="Everywhere")]


def _everywhere(root: _Root = None, json: _Json = False) -> None:
    """Carries the options that every command takes."""


def _shared_options() -> list[TyperOption]:
    """The options that every command takes, before or after its name. Their callbacks set the session."""
    application = typer.Typer(add_completion=False)
    application.command()(_everywhere)
    params = typer.main.get_command(application).params
    for param in params:
        param.expose_value = False
    return [param for param in params if isinstance(param, TyperOption)]


def build() -> BastideGroup:
    """The command tree. Nothing of a command is imported yet."""
    BastideGroup.shared = staticmethod(_shared_options)
    application = typer.Typer(
        cls=BastideGroup,
        add_completion=False,
        no_args_is_help=True,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
        epilog="Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 denied, 5 no daemon, "
        "6 locked or in the way, 7 not possible, 8 too slow, 130 interrupted.",
    )

    @application.callback()
    def top(
        root: _Root = None,
        json: _Json = False,
        version: Annotated[
            bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
        ] = False,
    ) -> None:
        """Containers and virtual machines on this machine, behind one API and one command line."""

    group = typer.main.get_group(application)
    lighten(group)
    return cast(BastideGroup, group)


def main(args: Sequence[str] | None = None, host: "Host | None" = None) -> None:
    """Run the command line and exit. `host` starts and ends a daemon on this machine."""
    if f"_{PROGRAM.upper()}_COMPLETE" in os.environ:
        from typer._completion_classes import completion_init  # noqa: PLC0415 - only a shell that completes asks

        completion_init()
    try:
        build().main(args=args, prog_name=PROGRAM, obj=Session(host))
    except KeyboardInterrupt:  # before a command had begun
        raise SystemExit(errors.INTERRUPTED) from None
    finally:
        _flush()


def _flush() -> None:
    """Write out what was printed; a reader that went away (`| head`) is no error, and nothing is told of it.

    `bastide.__main__` ends the process at once after this, so whatever is printed must be written here.
    """
    try:
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left in the buffer goes there
        if not isinstance(error, BrokenPipeError):
            sys.stderr.write(f"error: standard output: {error.strerror}\n")
            raise SystemExit(1) from None
