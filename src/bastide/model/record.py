"""Frozen records and how they meet the outside: keys with an index, property strings, refused characters.

Every value from outside becomes a `Record` before anything acts on it. Three habits of Proxmox VE's API live here:

* indexed keys: `net0`, `net1` are the entries 0 and 1 of the field `net` marked `Indexed(32)`;
* property strings: a field whose type is a `PropertyString` is written `key=value,key=value`;
* booleans are 0 and 1.
"""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType, UnionType
from typing import Any, ClassVar, Self, Union, get_args, get_origin

from pydantic import (
    BaseModel,
    ConfigDict,
    GetJsonSchemaHandler,
    ValidationError,
    model_serializer,
    model_validator,
)
from pydantic_core import CoreSchema

from bastide.base import propstring
from bastide.base.errors import InvalidParameter

Scalar = str | int | float

_INDEXED_KEY = re.compile(r"([a-z][a-z0-9_-]*?)(0|[1-9]\d{0,2})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Indexed:
    """Marks a `dict[int, T]` field whose entries are the keys `name0` ... `name<count - 1>`.

    `stem` is the name in those keys where it is not the field's own: `numa` is a switch beside `numa0`, `numa1` ...
    """

    count: int
    stem: str | None = None


@dataclass(frozen=True, slots=True)
class Multiline:
    """Marks a text field that may hold control characters: newlines and tabs, or those given."""

    characters: str = "\n\r\t"


ANY_TEXT = Multiline("".join(map(chr, (*range(32), *range(0x7F, 0xA0), 0x2028, 0x2029))))
"""Marks a text field, or a list of texts, whose characters reach no generated file: commands in guests."""


def forbidden_character(text: str, multiline: Multiline | None = None) -> str | None:
    """The name of the first character that a value from outside may not hold, or None.

    Control characters, line and paragraph separators and lone surrogates could end a line of a generated file.
    """
    for char in text:
        if multiline is not None and char in multiline.characters:
            continue
        if unicodedata.category(char) in ("Cc", "Zl", "Zp", "Cs"):
            return f"U+{ord(char):04X}"
    return None


class Record(BaseModel):
    """A frozen value with known keys only. `validate` and `to_text` are its text form."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    @model_validator(mode="before")
    @classmethod
    def _gather(cls, values: Any) -> Any:
        """Fold `net0`, `net1` into `net`, and refuse characters that no value may hold."""
        if not isinstance(values, Mapping):
            return values
        indexed, multiline = _marks(cls)
        fields = _stems(cls)
        gathered: dict[str, Any] = {}
        for key, value in values.items():
            for text in value if isinstance(value, (list, tuple)) else (value,):
                char = forbidden_character(text, multiline.get(key)) if isinstance(text, str) else None
                if char is not None:
                    raise ValueError(f"{key}: control character {char} is not allowed")
            match = _INDEXED_KEY.fullmatch(key)
            if match and match[1] in indexed and int(match[2]) < indexed[match[1]]:
                gathered.setdefault(fields[match[1]], {})[int(match[2])] = value
            elif fields.get(key) == key and not isinstance(value, Mapping):
                raise ValueError(f"{key}: use {key}0, {key}1 ...")
            else:
                gathered[key] = value
        return gathered

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> Self:
        """Build the record from its text form. Raises InvalidParameter that names every faulty key."""
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            raise InvalidParameter(explain(error, _stems(cls))) from None

    @classmethod
    def knows(cls, key: str) -> bool:
        """Whether a key in its text form is one of this record's."""
        match = _INDEXED_KEY.fullmatch(key)
        indexed, _ = _marks(cls)
        if match and match[1] in indexed:
            return int(match[2]) < indexed[match[1]]
        lists = set(_stems(cls).values())
        return key not in lists and key in {field.alias or name for name, field in cls.model_fields.items()}

    def to_text(self) -> dict[str, Scalar]:
        """The record as Proxmox shows it: flat keys, booleans as 0 and 1, unset keys left out."""
        result: dict[str, Scalar] = {}
        stems = {field: stem for stem, field in _stems(type(self)).items()}
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            key = field.alias or name
            if value is None:
                continue
            if isinstance(value, dict):
                key = stems[key]
                result.update({f"{key}{index}": _scalar(value[index]) for index in sorted(value)})
            else:
                result[key] = _scalar(value)
        return result


class PropertyString(Record):
    """A record written as `key=value,key=value`; `default_key` may stand bare at the front.

    `aliases` are other names of keys.
    """

    default_key: ClassVar[str | None] = None
    aliases: ClassVar[Mapping[str, str]] = MappingProxyType({})
    schema_format: ClassVar[str] = "pve-property-string"

    @model_validator(mode="before")
    @classmethod
    def _split(cls, values: Any) -> Any:
        if isinstance(values, int | float) and not isinstance(values, bool):
            values = str(values)  # `memory: 512` as JSON writes it
        if not isinstance(values, str):
            return values
        parsed: dict[str, str] = {}
        for key, value in propstring.parse(values, cls.default_key).items():
            name = cls.aliases.get(key, key)
            if name in parsed:
                raise ValueError(f"duplicate key in comma-separated list property: {name[:60]}")
            parsed[name] = value
        return parsed

    @model_serializer
    def _join(self) -> str:
        return str(self)

    def __str__(self) -> str:
        return propstring.render({key: str(value) for key, value in self.to_text().items()}, self.default_key)

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        inner = handler.resolve_ref_schema(handler(core))
        schema = {"type": "string", "format": cls.schema_format}
        for key in ("properties", "required"):
            if inner.get(key):
                schema[f"x-{key}"] = inner[key]
        return schema if cls.default_key is None else {**schema, "x-default-key": cls.default_key}


def explain(error: ValidationError, stems: Mapping[str, str] = MappingProxyType({})) -> dict[str, str]:
    """What a pydantic error says, as {parameter: reason}, with indexed keys as the user wrote them.

    `stems` maps the stem of indexed keys to their field.
    """
    result: dict[str, str] = {}
    written = {field: stem for stem, field in stems.items()}
    for item in error.errors(include_url=False, include_context=False):
        names = [part for part in item["loc"] if part != "[key]"]
        kind = item["type"]
        if names[-1:] in (["int"], ["float"]):
            names.pop()  # which of a union's types it is not
            kind = kind.replace("int_", "float_")
        reason = _plain(kind, item["msg"].removeprefix("Value error, "))
        if not names and ": " in reason:
            name, _, reason = reason.partition(": ")
        else:
            name = str(names[0]) if names else "value"
            # A list of plain values is one parameter, one of records is written as indexed keys are.
            if len(names) > 1 and isinstance(names[1], int) and (name in written or len(names) > 2):
                name = written.get(name, name) + str(names[1])
                names = names[1:]
            inner = ".".join(str(part) for part in names[1:])
            reason = f"{inner}: {reason}" if inner else reason
        if item["type"] == "extra_forbidden":
            reason = reason.replace("Extra inputs are not permitted", "property is not defined in schema")
        elif item["type"] == "missing":
            reason = reason.replace("Field required", "property is missing and it is not optional")
        result.setdefault(name, reason)
    return result


_PLAIN = {
    "bool_parsing": "expected 1 or 0",
    "bool_type": "expected 1 or 0",
    "int_parsing": "expected a whole number",
    "int_type": "expected a whole number",
    "float_parsing": "expected a number",
}


_PATTERNS = {
    "'^/[": "expected a whole path: / first, and neither control characters nor what separates values",
    "'^https://": "expected an address that begins with https://",
    "'^[A-Za-z][A-Za-z0-9_-]+$'": "expected a letter, and then letters, digits, - or _",
}


def _plain(kind: str, message: str) -> str:
    """What pydantic says, in words for who typed a value."""
    if kind == "string_pattern_mismatch":
        return next((words for pattern, words in _PATTERNS.items() if pattern in message), message)
    return _PLAIN.get(kind, message)


def _scalar(value: Any) -> Scalar:
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, (int, float)):
        return value
    return str(value)


@cache
def _marks(cls: type[Record]) -> tuple[dict[str, int], dict[str, Multiline]]:
    indexed: dict[str, int] = {}
    multiline: dict[str, Multiline] = {}
    for name, field in cls.model_fields.items():
        for mark in [*field.metadata, *_nested_metadata(field.annotation)]:
            if isinstance(mark, Indexed):
                indexed[mark.stem or field.alias or name] = mark.count
            elif isinstance(mark, Multiline):
                multiline[field.alias or name] = mark
    return indexed, multiline


@cache
def _stems(cls: type[Record]) -> dict[str, str]:
    """{stem of indexed keys: the field's key}."""
    return {
        mark.stem or field.alias or name: field.alias or name
        for name, field in cls.model_fields.items()
        for mark in [*field.metadata, *_nested_metadata(field.annotation)]
        if isinstance(mark, Indexed)
    }


def _nested_metadata(annotation: Any) -> list[Any]:
    if get_origin(annotation) in (Union, UnionType):
        return [mark for part in get_args(annotation) for mark in getattr(part, "__metadata__", ())]
    return []


def indexed_fields(cls: type[Record]) -> dict[str, str]:
    """The indexed fields of a record class: {the field's key: the stem of the keys that its entries have}."""
    return {field: stem for stem, field in _stems(cls).items()}
