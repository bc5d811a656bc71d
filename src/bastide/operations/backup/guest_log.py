"""One guest's share of a backup's log, in Proxmox VE's form: it is kept beside the backup as well."""

import threading
import time
from pathlib import Path

from bastide.host import filesystems
from bastide.tasks.log import clean_lines
from bastide.tasks.tasks import Task

_MOST_LINES = 20_000


class GuestLog(Task):
    """A task to whoever saves the guest: its lines go to the whole's log with their level, and are remembered."""

    def __init__(self, whole: Task) -> None:
        self.upid = whole.upid
        self._whole = whole
        self._lines: list[str] = []
        self._mutex = threading.Lock()

    def log(self, line: str) -> None:
        """Add what went as it should. May be called from any thread."""
        self._add("INFO", line)
        self._whole.log(f"INFO: {line}")

    def warn(self, line: str) -> None:
        """Add a warning, which is one of the whole's."""
        self._add("WARN", line)
        self._whole.warn(line)

    def error(self, line: str) -> None:
        """Add why the backup failed."""
        self._add("ERROR", line)
        self._whole.log(f"ERROR: {line}")

    @property
    def text(self) -> str:
        """All lines with their times."""
        return "".join(f"{line}\n" for line in self._lines)

    def write(self, path: Path) -> None:
        """Write it to a file, which is replaced. Raises HostFailure."""
        filesystems.make_folder(path.parent, 0o700)
        filesystems.replace_text(path, self.text)

    def _add(self, level: str, text: str) -> None:
        with self._mutex:
            for line in clean_lines(text):
                if len(self._lines) < _MOST_LINES:
                    self._lines.append(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {level}: {line}")
