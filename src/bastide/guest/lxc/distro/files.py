"""Pieces that several distributions share: managed sections, masks of systemd units, what a root has."""

import re
from collections.abc import Iterable

from bastide.host.rootdir import RootDir

_BEGIN = "# --- BEGIN BASTIDE ---"
_END = "# --- END BASTIDE ---"
_SECTION = re.compile(rf"^{_BEGIN}\n.*?^{_END}\n?", re.MULTILINE | re.DOTALL)
HEADER = "# Written by Bastide before each start; changes here are lost.\n"


def section(text: str, body: str, *, top: bool = False) -> str:
    """The text with our section replaced by `body` (lines), or without one when the body is empty."""
    rest = _SECTION.sub("", text)
    if not body:
        return rest
    ours = f"{_BEGIN}\n{body.rstrip()}\n{_END}\n"
    if rest and not rest.endswith("\n"):
        rest += "\n"
    return ours + rest if top else rest + ours


def update_section(root: RootDir, path: str, body: str, *, top: bool = False) -> None:
    """Bring our section of a file up to date; the rest of it stays."""
    before = root.read_text(path) or ""
    after = section(before, body, top=top)
    if after != before:
        root.mkdir(path.rpartition("/")[0] or "/")
        root.update(path, after)


def own_file(root: RootDir, path: str, content: str, *, mode: int = 0o644) -> None:
    """Write a file that is ours alone, its folder made when missing."""
    if root.readlink(path) is None and root.read_text(path) == content:
        return
    root.mkdir(path.rpartition("/")[0] or "/")
    root.write(path, content, mode=mode)


def drop_stale(root: RootDir, folder: str, prefix: str, keep: Iterable[str]) -> None:
    """Remove our files in a folder (they begin with `prefix`) but those to keep."""
    wanted = set(keep)
    for name in root.listdir(folder):
        if name.startswith(prefix) and name not in wanted:
            root.unlink(f"{folder}/{name}")


def set_key(text: str, key: str, value: str) -> str:
    """A shell-like `KEY=value` file with that key set, in its place or at the end."""
    line = f"{key}={value}"
    pattern = re.compile(rf"^\s*#?\s*{re.escape(key)}=.*$", re.MULTILINE)
    if pattern.search(text):
        return pattern.sub(lambda _: line, text, count=1)
    return f"{text}{'' if not text or text.endswith(chr(10)) else chr(10)}{line}\n"


def has_systemd(root: RootDir) -> bool:
    """Whether the root boots with systemd."""
    return any(root.is_file(f"{folder}/systemd/systemd") for folder in ("usr/lib", "lib"))


def has_unit(root: RootDir, unit: str) -> bool:
    """Whether systemd in the root knows a unit."""
    folders = ("etc/systemd/system", "usr/lib/systemd/system", "lib/systemd/system")
    return any(root.is_file(f"{folder}/{unit}") for folder in folders)


def enable(root: RootDir, unit: str, target: str = "multi-user.target") -> None:
    """Let a unit start with the target, unless it does or someone masked it."""
    place = f"etc/systemd/system/{target}.wants/{unit}"
    if not has_unit(root, unit) or root.exists(place) or root.exists(f"etc/systemd/system/{unit}"):
        return
    root.mkdir(f"etc/systemd/system/{target}.wants")
    folder = "/usr/lib" if root.is_file(f"usr/lib/systemd/system/{unit}") else "/lib"
    root.symlink(f"{folder}/systemd/system/{unit}", place)


def mask(root: RootDir, unit: str) -> None:
    """Keep a unit from starting, unless the guest's administrator has one of that name."""
    place = f"etc/systemd/system/{unit}"
    if has_unit(root, unit) and not root.exists(place):
        root.mkdir("etc/systemd/system")
        root.symlink("/dev/null", place)


def quoted(text: str) -> str:
    """A value between double quotes for shell-like files. Our values hold no quote, dollar or backslash."""
    return f'"{text}"'
