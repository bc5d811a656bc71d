"""Passwords and keyrings of storages: files that only root reads, never in a record, an answer or a log.

`password` is a credentials file of mount.cifs(8), `keyring` what Ceph's tools take, `secret` the bare key in it, which
mount.ceph(8) wants; `passphrase` is a repository's, as borg(1) reads it.
"""

import os
import re
from pathlib import Path
from typing import Literal

from bastide.base.errors import InvalidParameter
from bastide.base.layout import Layout
from bastide.host.filesystems import make_folder, replace_text

Secret = Literal["password", "keyring", "secret", "passphrase"]
Given = Literal["password", "keyring", "passphrase"]
"""What a user can give; `secret` is made of a keyring."""

_SECRETS: tuple[Secret, ...] = ("password", "keyring", "secret", "passphrase")
_KEY = re.compile(r"^\s*key\s*=\s*(\S+)\s*$", re.MULTILINE)
_BARE = re.compile(r"[A-Za-z0-9+/]{20,}={0,2}", re.ASCII)


def path(layout: Layout, storage: str, secret: Secret) -> Path:
    """Where a storage's secret lies, whether it is there or not."""
    return _folder(layout) / f"{storage}.{secret}"


def keep(layout: Layout, storage: str, secret: Given, text: str | None) -> None:
    """Write a secret, or remove it (None). Raises InvalidParameter naming it, HostFailure."""
    if text is None:
        forget(layout, storage, secret)
        return
    files = _files(secret, text)
    make_folder(_folder(layout), 0o700)
    for name, content in files.items():
        replace_text(path(layout, storage, name), content)


def forget(layout: Layout, storage: str, *secrets: Secret) -> None:
    """Remove a storage's secrets, all of them when none is named; those that are gone already are fine."""
    for secret in secrets or ("password", "keyring", "passphrase"):
        path(layout, storage, secret).unlink(missing_ok=True)
        if secret == "keyring":  # noqa: S105 - a kind of secret
            path(layout, storage, "secret").unlink(missing_ok=True)


def read(layout: Layout, storage: str) -> dict[Secret, str]:
    """A storage's secrets as the files hold them, to bring them back by `restore`."""
    found: dict[Secret, str] = {}
    for secret in _SECRETS:
        file = path(layout, storage, secret)
        if file.exists():
            found[secret] = file.read_text()
    return found


def restore(layout: Layout, storage: str, files: dict[Secret, str]) -> None:
    """Make a storage's secrets what `read` told."""
    forget(layout, storage)
    for secret, text in files.items():
        replace_text(path(layout, storage, secret), text)


def tidy(layout: Layout, storages: frozenset[str]) -> None:
    """Remove the secrets of storages that are not configured."""
    folder = _folder(layout)
    for name in os.listdir(folder) if folder.is_dir() else ():
        storage, _, secret = name.rpartition(".")
        if secret in _SECRETS and storage not in storages:
            (folder / name).unlink(missing_ok=True)


def _folder(layout: Layout) -> Path:
    return layout.state / "secrets" / "storage"


def _files(secret: str, text: str) -> dict[Secret, str]:
    if secret == "password":  # noqa: S105 - a kind of secret
        # mount.cifs(8) ends a value at the line's end, and knows no way to write one with a newline or a NUL.
        if len(text) > 256 or any(char in text for char in "\n\r\0"):
            raise InvalidParameter({"password": "at most 256 characters in one line"})
        return {"password": f"password={text}\n"}
    if secret == "passphrase":  # noqa: S105 - a kind of secret
        # Borg reads a descriptor to its end and takes one newline away.
        if not 1 <= len(text) <= 1024 or any(char in text for char in "\n\r\0"):
            raise InvalidParameter({"passphrase": "1 to 1024 characters in one line"})
        return {"passphrase": text}
    found = _KEY.search(text)
    key = found[1] if found else text.strip()
    if len(text) > 65536 or _BARE.fullmatch(key) is None:
        raise InvalidParameter({"keyring": "neither a keyring with a key in it nor a key"})
    return {"keyring": text if text.endswith("\n") else f"{text}\n", "secret": f"{key}\n"}
