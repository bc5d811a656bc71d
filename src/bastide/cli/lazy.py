"""A Typer group that imports a command's module when the command is used, and options that all commands share.

Typer reads its parameters through pydantic, which takes longer to import than an `exec` may take as a whole. The plain
ones (text, lists of text, whole numbers, choices) are read here instead, so that only unusual parameters pay for it.
"""

from collections.abc import Callable, Mapping, MutableMapping
from enum import StrEnum
from functools import partial
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

Loader = tuple[str, str]  # "module:attribute" of a function or of a Typer application, and the panel in help


class LazyGroup(TyperGroup):
    """The top of the command tree. `table` names every command and where its function is."""

    table: Mapping[str, Loader] = {}
    shared: Callable[[], list[TyperOption]] = staticmethod(list)

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - the base class decides
        """Every command's name, in the order in which help shows them."""
        return list(self.table)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002 - as above
        """Import a command. None when there is none of that name."""
        loader = self.table.get(cmd_name)
        if loader is None:
            return None
        if cmd_name not in self.commands:
            self.commands[cmd_name] = _load(cmd_name, loader, self.shared)
        return self.commands[cmd_name]

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command of the first argument; a wrong one is told with the names that are near to it."""
        if args and args[0] not in self.table:
            names: MutableMapping[str, Any] = (
                self.commands
            )  # suggestions are made from its keys; nothing is imported for them
            for name in self.table:
                names.setdefault(name, None)
        return super().resolve_command(ctx, args)


def _load(name: str, loader: Loader, shared: Callable[[], list[TyperOption]]) -> Any:
    module, _, attribute = loader[0].partition(":")
    found = getattr(import_module(module), attribute)
    if not isinstance(found, typer.Typer):
        application = typer.Typer(add_completion=False, rich_markup_mode="rich")
        settings = getattr(found, "command_settings", {})
        application.command(name, **settings)(found)
        found = application
        command: Any = typer.main.get_command(found)
    else:
        command = typer.main.get_group(found)
        command.no_args_is_help = True
    command.name, command.rich_help_panel = name, loader[1]
    _prepare(command, shared)
    return command


def _prepare(command: Any, shared: Callable[[], list[TyperOption]]) -> None:
    """Give every command below the shared options and the light reading of plain parameters."""
    if isinstance(command, TyperGroup):
        for child in command.commands.values():
            _prepare(child, shared)
    elif isinstance(command, TyperCommand):
        command.params.extend(shared())
    lighten(command)


def command_settings(**settings: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Mark a function with what Typer's `command` shall be called with."""

    def mark(function: Callable[..., Any]) -> Callable[..., Any]:
        function.command_settings = settings  # type: ignore[attr-defined]
        return function

    return mark


class _Plain:
    """Reads text, lists of text, whole numbers and choices without pydantic."""

    def __init__(self, kind: Any) -> None:
        self.kind = kind

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        """The parameter's value, as Typer's own reader would return it. Raises BadParameter."""
        many = param.multiple or param.nargs == -1
        if value is None:
            return () if many else None
        if many:
            return [str(item) for item in value]
        if self.kind is int and not isinstance(value, int):
            try:
                return int(str(value), 10)
            except ValueError:
                raise typer.BadParameter(f"'{value}' is not a whole number.", ctx=ctx, param=param) from None
        if issubclass(self.kind, StrEnum):
            try:
                return self.kind(str(value))
            except ValueError:
                choices = ", ".join(self.kind)
                raise typer.BadParameter(f"'{value}' is not one of {choices}.", ctx=ctx, param=param) from None
        return value if isinstance(value, self.kind) else str(value)


def lighten(command: Any) -> None:
    """Let a command's plain parameters be read by `_Plain`, and all be shown the way manual pages show them."""
    for param in command.params:
        _lighten(param)
    _replace(command, "get_help_option", partial(_help_option, command.get_help_option))


def _lighten(param: Any) -> None:
    kind = param.type_descriptor.annotation
    info = param.type_descriptor.parameter_info
    limited = info.min is not None or info.max is not None or info.parser is not None
    plain = kind in (str, int, bool, list[str]) or (isinstance(kind, type) and issubclass(kind, StrEnum))
    if plain and not limited:
        _replace(param, "get_runtime_param", partial(_Plain, kind))
    if isinstance(param, TyperArgument):
        _replace(param, "get_usage_pieces", partial(_usage, param))
    if kind is bool or (isinstance(param, TyperArgument) and not param.type_descriptor.is_choice):
        _replace(param, "display_type_rich", _no_type)


def _replace(made: Any, method: str, by: Callable[..., Any]) -> None:
    """Replace a method of one object; Typer makes commands and parameters itself, so a subclass would not be used."""
    setattr(made, method, by)


def _help_option(make: Callable[[Any], Any], ctx: Any) -> Any:
    option = make(ctx)
    if option is not None:
        _lighten(option)
    return option


def _usage(param: Any, _ctx: Any) -> list[str]:
    name = param.metavar or param.name.upper()
    if param.nargs == -1 and " " not in name:  # one that tells of several already needs no dots
        name += "" if name.endswith("...") else "..."
    return [name if param.required else f"[{name}]"]


def _no_type(ctx: Any) -> None:
    """What a flag or an argument is needs no word beside it."""
