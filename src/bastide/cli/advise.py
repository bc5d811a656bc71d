"""`advise`."""

import typer

from bastide.base.errors import MethodNotImplemented


def advise(ctx: typer.Context) -> None:  # noqa: ARG001 - not built yet
    """Say which kind of guest a service should be, and why."""
    raise MethodNotImplemented("bastide advise is not built yet")
