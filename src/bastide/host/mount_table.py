"""The table of mounts, read again when the kernel tells that something was mounted or unmounted.

To write it costs the kernel a millisecond and more where there are many mounts, and one operation asks often. The open
file stands for the namespace that the process was in when it first asked, which a daemon does not leave.

Source: proc(5), /proc/PID/mountinfo and mounts.
"""

import os
import re
import select
import threading

_ESCAPE = re.compile(r"\\([0-7]{3})")


class MountTable:
    """What was last read, and whether that is still true."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._file = -1
        self._news = select.poll()
        self._text = ""
        self._places: list[tuple[str, str]] = []

    def text(self) -> str:
        """The whole of it."""
        with self._turn:
            self._refresh()
            return self._text

    def places(self) -> list[tuple[str, str]]:
        """Its lines with their mount points. The list belongs to all who asked: it is never changed."""
        with self._turn:
            self._refresh()
            return self._places

    def _refresh(self) -> None:
        if self._file < 0:
            self._file = os.open("/proc/self/mountinfo", os.O_RDONLY | os.O_CLOEXEC)
            self._news.register(self._file, select.POLLPRI | select.POLLERR)
        elif not self._news.poll(0):  # asked before it is read: what comes meanwhile is told the next time
            return
        # Mount points are bytes; the file system encoding brings them back unchanged.
        self._text = _read_anew(self._file).decode(errors="surrogateescape")
        self._places = [(line, unescape(line.split(" ", 5)[4])) for line in self._text.split("\n") if line]


_TABLE = MountTable()


def text() -> str:
    """The text of /proc/self/mountinfo as it is now."""
    return _TABLE.text()


def places() -> list[tuple[str, str]]:
    """Its lines with their mount points, in mounting order; not to be changed."""
    return _TABLE.places()


def unescape(text: str) -> str:
    """A field of it as the kernel knows it: four characters are written in octal."""
    return _ESCAPE.sub(lambda match: chr(int(match[1], 8)), text) if "\\" in text else text


def _read_anew(descriptor: int) -> bytes:
    os.lseek(descriptor, 0, os.SEEK_SET)
    parts = []
    while part := os.read(descriptor, 1 << 16):
        parts.append(part)
    return b"".join(parts)
