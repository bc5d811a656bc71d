"""Pseudo-terminals (pty(7))."""

import fcntl
import os
import struct
import termios
from typing import Any


def open_pty(columns: int, rows: int) -> tuple[int, int]:
    """A new pseudo-terminal of that size: the descriptors of its master and slave. Neither survives an exec."""
    master, slave = os.openpty()
    resize(master, columns, rows)
    return master, slave


def resize(descriptor: int, columns: int, rows: int) -> None:
    """Set a terminal's size; its foreground processes get SIGWINCH (ioctl_tty(2))."""
    size = struct.pack("HHHH", max(1, min(rows, 0xFFFF)), max(1, min(columns, 0xFFFF)), 0, 0)
    fcntl.ioctl(descriptor, termios.TIOCSWINSZ, size)


def is_raw(descriptor: int) -> bool:
    """Whether the terminal hands every keystroke on at once (ICANON is off, termios(3))."""
    attributes: list[Any] = termios.tcgetattr(descriptor)
    return not attributes[3] & termios.ICANON


def leave_output_alone(descriptor: int) -> None:
    """Let the terminal pass output on as it is, without a carriage return for every new line."""
    attributes: list[Any] = termios.tcgetattr(descriptor)
    attributes[1] &= ~termios.OPOST
    termios.tcsetattr(descriptor, termios.TCSANOW, attributes)
