"""Answers held against the shapes that the reference says they have."""

from collections.abc import Iterator
from typing import Any

KINDS: dict[str, tuple[type, ...]] = {
    "string": (str,), "integer": (int,), "number": (int, float), "boolean": (int,), "object": (dict,), "array": (list,),
    "null": (type(None),),
}  # fmt: skip
LEFT_OUT = {"osdid", "osdid-list"}
"""What is Ceph's: a disk that is none of its has -1 and null, as with Proxmox VE."""


def differences(value: Any, shape: dict[str, Any], where: str = "") -> Iterator[str]:
    """How a value differs from its shape."""
    kind = shape.get("type", "any")
    if value is None and shape.get("optional"):
        return
    if kind in KINDS and not isinstance(value, KINDS[kind]):
        yield f"{where}: {value!r} is no {kind}"
    elif kind == "boolean" and value not in (0, 1):
        yield f"{where}: {value!r} is neither 0 nor 1"
    elif "enum" in shape and value not in shape["enum"]:
        yield f"{where}: {value!r} is none of {shape['enum']}"
    elif isinstance(value, dict):
        for key, below in shape.get("properties", {}).items():
            if key in LEFT_OUT:
                continue
            if key in value:
                yield from differences(value[key], below, f"{where}.{key}")
            elif not below.get("optional"):
                yield f"{where}.{key} is missing"
    elif isinstance(value, list):
        for number, one in enumerate(value):
            yield from differences(one, shape.get("items", {}), f"{where}[{number}]")
