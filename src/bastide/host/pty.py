"""Pseudo-terminals (pty(7))."""

import fcntl
import os
import struct
import termios


def open_pty(columns: int, rows: int) -> tuple[int, int]:
    """A new pseudo-terminal of that size: the descriptors of its master and slave. Neither survives an exec."""
    master, slave = os.openpty()
    resize(master, columns, rows)
    return master, slave


def resize(descriptor: int, columns: int, rows: int) -> None:
    """Set a terminal's size; its foreground processes get SIGWINCH (ioctl_tty(2))."""
    size = struct.pack("HHHH", max(1, min(rows, 0xFFFF)), max(1, min(columns, 0xFFFF)), 0, 0)
    fcntl.ioctl(descriptor, termios.TIOCSWINSZ, size)
