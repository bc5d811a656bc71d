"""Kernel settings below /proc/sys (sysctl(8)).

A key is written with slashes, `net/ipv4/conf/eth0/forwarding`, because interface names may hold dots.
"""

from pathlib import Path

from bastide.base.errors import HostFailure

_ROOT = Path("/proc/sys")


def exists(key: str) -> bool:
    """Whether this kernel knows the setting."""
    return (_ROOT / key).exists()


def read(key: str) -> str | None:
    """The value without its line end, or None when the kernel (or the interface) does not have the setting."""
    try:
        return (_ROOT / key).read_text().strip()
    except (FileNotFoundError, NotADirectoryError):
        return None


def write(key: str, value: str) -> None:
    """Set a value. Raises HostFailure naming the setting."""
    try:
        (_ROOT / key).write_text(value)
    except OSError as error:
        raise HostFailure(f"cannot set {key.replace('/', '.')} to {value}: {error.strerror}") from error


def try_write(key: str, value: str) -> bool:
    """Set a value that the kernel may not have; whether it was set."""
    if not exists(key):
        return False
    write(key, value)
    return True
