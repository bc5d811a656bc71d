"""`compare`."""

import typer

from bastide.base.errors import MethodNotImplemented


def compare(ctx: typer.Context) -> None:  # noqa: ARG001 - not built yet
    """Measure containers against VMs on this host."""
    raise MethodNotImplemented("bastide compare is not built yet")
