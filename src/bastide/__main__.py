"""`python -m bastide`: the command line, given the one thing it may not import, this machine."""

import os
import sys
from typing import TYPE_CHECKING

from bastide.base.layout import Layout
from bastide.cli.main import main as run

if TYPE_CHECKING:
    from bastide.cli.hosting import DownReport, DownRequest, Finding, UpReport, UpRequest


class _ThisMachine:
    """`up`, `down` and `doctor`, imported when one of them is used: every other command starts without them."""

    def up(self, layout: Layout, request: "UpRequest") -> "UpReport | None":
        from bastide.daemon import control  # noqa: PLC0415

        return control.up(layout, request)

    def down(self, layout: Layout, request: "DownRequest") -> "DownReport":
        from bastide.daemon import control  # noqa: PLC0415

        return control.down(layout, request)

    def doctor(self, layout: Layout) -> "list[Finding]":
        from bastide.daemon import control  # noqa: PLC0415

        return control.doctor(layout)


def main() -> None:
    """Run and exit.

    Taking an interpreter apart object by object takes a sixth of a short command's time, and the kernel does it anyway.
    """
    try:
        run(host=_ThisMachine())
    except SystemExit as end:
        if not isinstance(end.code, int | None):
            raise
        sys.stderr.flush()
        os._exit(end.code or 0)


if __name__ == "__main__":
    main()
