"""`capacity`."""

import typer

from bastide.base.errors import MethodNotImplemented


def capacity(ctx: typer.Context) -> None:  # noqa: ARG001 - not built yet
    """Show what still fits on this host."""
    raise MethodNotImplemented("bastide capacity is not built yet")
