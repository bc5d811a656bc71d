"""The daemon: `python -m bastide.daemon [--root DIR] [--port N] [--node NAME] [--bridge NAME] [--listen ADDRESS]`."""

import argparse
import asyncio
import logging
import os
import sys
from pathlib import Path

from bastide.base.errors import BastideError
from bastide.base.layout import Layout
from bastide.daemon.server import run_daemon
from bastide.daemon.settings import Asked


def main() -> int:
    """Run until a signal ends it. Exit code 1 when it could not start; the reason is the last line of the log."""
    parser = argparse.ArgumentParser(prog="bastide.daemon")
    parser.add_argument("--root", type=Path)
    parser.add_argument("--port", type=int)
    parser.add_argument("--node")
    parser.add_argument("--bridge")
    parser.add_argument("--listen")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    layout = Layout(arguments.root.resolve() if arguments.root else None)
    asked = Asked(arguments.node, arguments.port, arguments.bridge, arguments.listen)
    try:
        asyncio.run(run_daemon(layout, asked))
    except BastideError as error:
        logging.getLogger("bastide").error("%s", error)
        return 1
    except Exception:
        logging.getLogger("bastide").exception("the daemon ends by a fault of its own")
        return 1
    return 0


if __name__ == "__main__":
    code = main()
    logging.shutdown()
    # The end of the interpreter collects asyncio's transports, which kill their processes: QEMU goes on without us.
    os._exit(code)
