"""`review`."""

import typer

from bastide.base.errors import MethodNotImplemented


def review(ctx: typer.Context) -> None:  # noqa: ARG001 - not built yet
    """Find guests of the wrong size or kind."""
    raise MethodNotImplemented("bastide review is not built yet")
