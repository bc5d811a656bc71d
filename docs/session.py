"""Draw docs/session.svg from a real run of the commands in the README.

    sudo .venv/bin/python docs/session.py [--root DIR]

Every line of the picture is what the commands printed; nothing is written by hand. The guest is removed afterwards.
"""

import argparse
import os
import pty
import re
import select
import subprocess
import time
from pathlib import Path

from rich.console import Console
from rich.text import Text

HERE = Path(__file__).resolve().parent
COLUMNS, ROWS = 100, 40
COMMANDS = [
    ["up"],
    ["launch", "debian-12", "web"],
    ["exec", "web", "--", "hostname"],
    ["ls"],
]


def run_on_terminal(argv: list[str], environment: dict[str, str]) -> str:
    """What a command shows on a terminal of 100 columns, with its colours."""
    master, slave = pty.openpty()
    os.set_inheritable(slave, True)
    subprocess.run(["stty", "cols", str(COLUMNS), "rows", str(ROWS)], stdin=slave, check=True)
    process = subprocess.Popen(argv, stdin=slave, stdout=slave, stderr=slave, env=environment, start_new_session=True)
    os.close(slave)
    shown = bytearray()
    while True:
        ready, _, _ = select.select([master], [], [], 0.2)
        if ready:
            try:
                data = os.read(master, 65536)
            except OSError:
                break
            if not data:
                break
            shown += data
        elif process.poll() is not None:
            break
    os.close(master)
    process.wait()
    return shown.decode(errors="replace")


def settled(shown: str) -> str:
    """The text that stays on the screen once progress lines have been drawn over."""
    lines: list[str] = []
    row = 0
    for part in re.split(r"(\x1b\[\d*A|\x1b\[2K|\r|\n)", re.sub(r"\x1b\[\?25[lh]|\x1b\[0?K", "", shown)):
        if part == "\n":
            row += 1
        elif match := re.fullmatch(r"\x1b\[(\d*)A", part):
            row = max(0, row - int(match[1] or 1))
        elif part == "\x1b[2K":
            if row < len(lines):
                lines[row] = ""
        elif part != "\r":
            lines += [""] * (row + 1 - len(lines))
            lines[row] += part
    return "\n".join(line.rstrip() for line in lines).rstrip("\n")


def main() -> None:
    """Run the session and write the picture."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", type=Path)
    root = parser.parse_args().root
    environment = dict(os.environ, TERM="xterm-256color", COLUMNS=str(COLUMNS), LINES=str(ROWS))
    if root:
        environment["BASTIDE_ROOT"] = str(root)
    launcher = str(HERE.parent / "bastide")
    console = Console(record=True, width=COLUMNS, file=Path(os.devnull).open("w"), force_terminal=True)
    for command in COMMANDS:
        began = time.monotonic()
        shown = settled(run_on_terminal([launcher, *command], environment))
        console.print(f"[bold green]root@host[/]:[bold blue]~/bastide[/]# [bold]./bastide {' '.join(command)}[/]")
        if shown:
            console.print(Text.from_ansi(shown))
        print(f"{' '.join(command)}: {time.monotonic() - began:.1f} s")
    console.save_svg(str(HERE / "session.svg"), title="Bastide")
    subprocess.run([launcher, "rm", "--force", "web"], env=environment, check=True, stdin=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
