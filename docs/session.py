"""Draw docs/session.svg from a real run of the commands in the README, in a terminal of tmux (Debian's package).

    sudo .venv/bin/python docs/session.py

Every line of the picture is what the terminal showed; nothing is written by hand. The guest is removed afterwards.
"""

import os
import re
import subprocess
import time
from pathlib import Path

from rich.console import Console
from rich.text import Text

HERE = Path(__file__).resolve().parent
COLUMNS, ROWS = 110, 60
PROMPT = "root@host:~/bastide# "
COMMANDS = [
    "./bastide up",
    "./bastide launch debian-12 web",
    "./bastide exec web -- hostname",
    "./bastide set web memory=512 cores=1",
    "./bastide ls",
]
SOCKET = ["tmux", "-L", "bastide-session", "-f", os.devnull]


def tmux(*arguments: str) -> str:
    """What a tmux command prints."""
    return subprocess.run([*SOCKET, *arguments], check=True, capture_output=True, text=True).stdout


def run(command: str, number: int) -> float:
    """Type a command and wait until the prompt is back; returns the seconds it took."""
    began = time.monotonic()
    tmux("send-keys", "-t", "s", command, "Enter")
    while tmux("capture-pane", "-t", "s", "-p").count(PROMPT.strip()) <= number:
        time.sleep(0.1)
    return time.monotonic() - began


def main() -> None:
    """Run the session and write the picture."""
    environment = {"PS1": PROMPT, "TERM": "xterm-256color", "HOME": "/root", "PATH": os.environ["PATH"]}
    shell = ["env", "-i", *(f"{key}={value}" for key, value in environment.items()), "bash", "--norc", "--noprofile"]
    tmux("new-session", "-d", "-s", "s", "-x", str(COLUMNS), "-y", str(ROWS), "-c", str(HERE.parent), *shell)
    try:
        time.sleep(1)
        for number, command in enumerate(COMMANDS, start=1):
            print(f"{command}: {run(command, number):.1f} s")
        screen = tmux("capture-pane", "-t", "s", "-e", "-p").rstrip()
    finally:
        tmux("kill-server")
    console = Console(record=True, width=COLUMNS, file=Path(os.devnull).open("w"), force_terminal=True)
    console.print(Text.from_ansi(screen.rpartition("\n")[0]))
    picture = re.sub(r"@font-face \{.*?\}", "", console.export_svg(title="Bastide"), flags=re.DOTALL)
    (HERE / "session.svg").write_text(picture)
    subprocess.run([str(HERE.parent / "bastide"), "rm", "--force", "web"], check=True, stdin=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
