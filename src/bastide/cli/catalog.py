"""`catalog`."""

import typer

from bastide.base.errors import MethodNotImplemented


def catalog(ctx: typer.Context) -> None:  # noqa: ARG001 - not built yet
    """Show the services that the architect knows."""
    raise MethodNotImplemented("bastide catalog is not built yet")
