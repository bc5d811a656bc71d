"""Property strings: `key=value,key=value`, the way Proxmox VE nests options in one parameter.

A first part without `=` belongs to the default key: `local:8,ro=1` is `volume=local:8,ro=1`.
"""

from collections.abc import Mapping


def parse(text: str, default_key: str | None = None) -> dict[str, str]:
    """Split a property string. Raises ValueError with a sentence that names the faulty part."""
    result: dict[str, str] = {}
    for part in text.split(","):
        if part == "":
            continue
        key, equals, value = part.partition("=")
        if not equals:
            if default_key is None:
                raise ValueError(f"missing key in comma-separated list property: '{part[:60]}'")
            key, value = default_key, part
        if key in result:
            raise ValueError(f"duplicate key in comma-separated list property: {key[:60]}")
        result[key] = value
    return result


def render(values: Mapping[str, str], default_key: str | None = None) -> str:
    """Join a property string, the default key's value first and bare.

    Raises ValueError when a value holds a comma, which the form cannot carry.
    """
    for key, value in values.items():
        if "," in value:
            raise ValueError(f"{key}: a comma cannot stand in a property string")
    parts = []
    if default_key is not None and default_key in values:
        first = values[default_key]
        parts.append(f"{default_key}={first}" if "=" in first else first)
    parts += [f"{key}={value}" for key, value in values.items() if key != default_key]
    return ",".join(parts)
