"""What `storage add` and `storage set` are told: options, secrets, and why some are refused."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bastide.base.errors import InvalidParameter, NotFound
from bastide.cli.configure import key_values


def check_type(kind: str) -> None:
    """Raise InvalidParameter that names the types when it is none."""
    from bastide.model.storage import TYPES  # noqa: PLC0415 - pydantic, which other commands do not load

    if kind not in TYPES:
        raise InvalidParameter({"type": f"'{kind[:40]}' is no type of storage: {', '.join(TYPES)}"})


@contextmanager
def explained(kind_of: Callable[[], str]) -> Iterator[None]:
    """Tell which keys its type has, and which never change, where the daemon only says that one is not known to it."""
    try:
        yield
    except InvalidParameter as error:
        from bastide.model.storage import TYPES  # noqa: PLC0415 - as above

        kind = kind_of()
        keys = next((keys.keys for name, keys in TYPES.items() if name == kind), frozenset())
        known = keys | {"storage", "type"}
        told = {key: _reason(key, why, kind, known) for key, why in error.errors.items()}
        raise InvalidParameter(told) from None


def _reason(key: str, why: str, kind: str, known: frozenset[str]) -> str:
    if "is not defined in schema" not in why and "no such property" not in why:
        return why
    if key in known:
        return "it never changes; remove the storage and add it anew: what lies on it stays"
    return f"{kind} has no such option; `bastide storage types` tells which it has"


def read(
    options: list[str] | None,
    password_file: str | None,
    keyring_file: str | None,
    passphrase_file: str | None = None,
) -> dict[str, Any]:
    """The keys that were given, and the secrets that lie in files. Raises InvalidParameter for one on the line."""
    values = key_values(options or [])
    if option := {"delete", "digest"} & set(values):
        raise InvalidParameter(dict.fromkeys(option, f"give it with --{min(option)}"))
    files = {"password": password_file, "keyring": keyring_file, "passphrase": passphrase_file}
    for key, file in files.items():
        if key in values:
            raise InvalidParameter({key: f"others can read the command line: give it with --{key}-file FILE"})
        if file is not None:
            values[key] = secret(file)
    return values


def secret(file: str) -> str:
    """A secret in a file, without the newline at its end. Raises NotFound, InvalidParameter, OSError."""
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text()
    except FileNotFoundError:
        raise NotFound(f"file '{file}' does not exist") from None
    except UnicodeDecodeError:
        raise InvalidParameter({"file": f"'{file}' is not text"}) from None
    return text.removesuffix("\n")
