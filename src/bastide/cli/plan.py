"""`plan`, `apply`, `destroy`."""

import typer

from bastide.base.errors import MethodNotImplemented


def plan(ctx: typer.Context) -> None:  # noqa: ARG001 - not built yet
    """Show what applying a plan would change."""
    raise MethodNotImplemented("bastide plan is not built yet")


def apply(ctx: typer.Context) -> None:  # noqa: ARG001 - not built yet
    """Make a plan's guests."""
    raise MethodNotImplemented("bastide apply is not built yet")


def destroy(ctx: typer.Context) -> None:  # noqa: ARG001 - not built yet
    """Remove a plan's guests."""
    raise MethodNotImplemented("bastide destroy is not built yet")
