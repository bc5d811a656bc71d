"""A service as its owner writes it down: what it needs, what it wishes, and whatever is not known left out.

The same keys stand in a file for `bastide advise -f`, in a plan, in a catalog entry's `needs`, and in a call of
`/architect/advise`. Every key may be missing: what is missing is asked for, or assumed and said.
"""

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from bastide.base import units
from bastide.model.guest import Kind
from bastide.model.record import Record
from bastide.model.types import DnsName

Choice = Literal["ct", "vm"]
"""The two kinds of guest, as the architect and the command line call them."""

ENGINE: dict[Choice, Kind] = {"ct": "lxc", "vm": "qemu"}
"""The kinds as the API's paths and records call them."""

_WORD = re.compile(r"[a-z0-9][a-z0-9._+-]{0,62}", re.ASCII)
SIZE_LIMIT = 1024 * units.GIB * 1024


def _word(value: Any) -> Any:
    text = str(value).strip().lower()
    if not _WORD.fullmatch(text):
        raise ValueError(f"'{str(value)[:60]}' is not a name such as debian-12: use letters, digits, '-', '.' and '+'")
    return text


def _size(value: Any) -> Any:
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise ValueError(f"say the unit: {value}M or {value}G")
    return value


def _sized(text: str) -> str:
    size = units.parse_size(text)
    if text.isdigit():
        raise ValueError(f"say the unit: {text}M or {text}G")
    if not units.MIB <= size <= SIZE_LIMIT:
        raise ValueError(f"{text} is not between 1M and {units.format_size(SIZE_LIMIT)}")
    return units.format_size(size)


Word = Annotated[str, BeforeValidator(_word)]
"""A lower-case name: of a system (`debian-12`), of a catalog entry (`nginx`), of a kernel module."""

Size = Annotated[str, BeforeValidator(_size), AfterValidator(_sized), Field(examples=["512M", "8G"])]
"""Bytes as text with a unit: `512M`, `8G`."""


class Kernel(Record):
    """What a service asks of the kernel that it runs on. Any of it means a kernel of its own.

    `version` is one it needs, `modules` those it loads, `parameters` those of the kernel's command line; `tracing` is
    eBPF, perf or a kernel debugger.
    """

    own: bool = False
    version: Annotated[str | None, Field(max_length=40)] = None
    modules: tuple[Word, ...] = ()
    parameters: tuple[Annotated[str, Field(min_length=1, max_length=200)], ...] = ()
    tracing: bool = False

    @model_validator(mode="before")
    @classmethod
    def _text(cls, values: Any) -> Any:
        """YAML reads `version: 5.4` as a number; a form says `own` or `tracing`."""
        if values in ("own", "tracing"):
            return {values: True}
        if isinstance(values, dict) and isinstance(values.get("version"), int | float):
            return {**values, "version": str(values["version"])}
        return values


class Device(Record):
    """Hardware that a service uses.

    `mode` is `whole` (handed over, by VFIO or as a USB device) or `shared` (the host's driver serves it, as a
    device node; `node` is the same). `what` tells which: `hba`, `nic`, `coral`, a PCI address, a path below /dev.
    As text it is `TYPE[:MODE[:WHAT]]`: `tun`, `gpu:shared`, `pci::hba`.
    """

    type: Literal["gpu", "pci", "usb", "serial", "disk", "tun", "fuse", "kvm", "sound"]
    mode: Literal["whole", "shared", "node"] | None = None
    what: Annotated[str | None, Field(max_length=80)] = None

    @model_validator(mode="before")
    @classmethod
    def _text(cls, values: Any) -> Any:
        if not isinstance(values, str):
            return values
        parts = zip(("type", "mode", "what"), values.strip().split(":", 2), strict=False)
        return {key: part for key, part in parts if part}


class Service(Record):
    """A service: what it is, what it needs, how large it is. See docs/architect.md for each key."""

    name: DnsName | None = None
    service: Word | None = None
    os: Word | None = None
    exposure: Literal["internet", "lan", "none"] | None = None
    isolation: Literal["absolute", "normal"] | None = None
    tenants: Literal["trusted", "untrusted"] | None = None
    untrusted_code: bool | None = None
    kernel: Kernel | None = None
    engine: Literal["docker", "podman", "kubernetes", "none"] | None = None
    appliance: bool | None = None
    devices: tuple[Device, ...] | None = None
    live_migration: bool | None = None
    nfs: Literal["client", "server", "none"] | None = None
    nested_virtualization: bool | None = None
    instances: Annotated[int | None, Field(ge=1, le=1000)] = None
    ephemeral: bool | None = None
    priority: Literal["performance", "density", "isolation"] | None = None
    kind: Choice | None = None
    cores: Annotated[int | None, Field(ge=1, le=512)] = None
    memory: Size | None = None
    disk: Size | None = None

    @field_validator("devices", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        """A form has no list of one or none."""
        return ([value] if value else []) if isinstance(value, str) else value
