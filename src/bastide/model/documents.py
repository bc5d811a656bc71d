"""A record from a YAML text, with errors that name the line.

YAML 1.1 in its safe form, without aliases (a few lines of them can stand for gigabytes) and without keys that stand
twice. Source: https://yaml.org/spec/1.1/, PyYAML's composer.
"""

from collections.abc import Mapping
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from bastide.base.errors import InvalidParameter
from bastide.model.record import Record

R = TypeVar("R", bound=Record)
Path = tuple[str | int, ...]

TEXT_LIMIT = 512 * 1024
"""Characters of a text that is read at all, as many as bytes of a call's body."""

# libyaml's reads a megabyte in a tenth of the time, and refuses what is nested more than 1,000 times.
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_NO_MAPPING = "holds no mapping: write `key: value` lines"
_REPLACED = {
    "Extra inputs are not permitted": "this key is not known",
    "Field required": "this key is missing",
}


def parse(text: str, record: type[R], what: str = "file") -> R:
    """The record that a YAML text holds. Raises InvalidParameter, its keys such as `line 4: services[0].memory`.

    `what` names the text in errors that belong to no key of it. A validator of a whole record says which key it means
    by `KEY: reason` or `services[0].memory: reason`.
    """
    data, lines = load(text, what)
    if not isinstance(data, Mapping):
        raise InvalidParameter({what: _NO_MAPPING})
    try:
        return record.model_validate(data)
    except ValidationError as error:
        raise InvalidParameter(_explained(error, lines, what)) from None


def load(text: str, what: str = "file") -> tuple[Any, Mapping[Path, int]]:
    """A YAML text as plain data, and the line (from 1) of each key and item. Raises InvalidParameter."""
    if len(text) > TEXT_LIMIT:
        raise InvalidParameter({what: f"is longer than {TEXT_LIMIT >> 10} KiB"})
    lines: dict[Path, int] = {}
    try:
        loader = _Loader(text)
        try:
            if "*" in text:  # an alias begins with it, and looking for one takes as long as reading the text
                _refuse_aliases(text, what)
            node = loader.get_single_node()
            return (None if node is None else _data(loader, node, (), lines, what)), lines
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}" if mark is not None else what
        raise InvalidParameter({place: f"is not YAML: {error.problem or error.context}"}) from None
    except yaml.YAMLError as error:
        raise InvalidParameter({what: f"is not YAML: {' '.join(str(error).split())[:200]}"}) from None
    except UnicodeEncodeError:
        raise InvalidParameter({what: "holds a half of a character (a surrogate)"}) from None
    except RecursionError:
        raise InvalidParameter({what: "is nested too deeply"}) from None


def _refuse_aliases(text: str, what: str) -> None:
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.AliasEvent):
            place = f"line {event.start_mark.line + 1}" if event.start_mark else what
            raise InvalidParameter({place: f"aliases (*{event.anchor}) are not read: write the values out"})


def _data(loader: Any, node: Any, path: Path, lines: dict[Path, int], what: str) -> Any:
    lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise InvalidParameter({f"line {line}": "a key must be a word"})
            key = str(key_node.value)
            if key in result:
                raise InvalidParameter({f"line {line}: {shown((*path, key))}": "stands twice"})
            lines[(*path, key)] = line
            result[key] = _data(loader, value_node, (*path, key), lines, what)
        return result
    if isinstance(node, yaml.SequenceNode):
        return [_data(loader, item, (*path, index), lines, what) for index, item in enumerate(node.value)]
    try:
        return loader.construct_object(node, deep=True)
    except (ValueError, OverflowError):
        raise InvalidParameter({f"line {node.start_mark.line + 1}": f"'{node.value[:40]}' is no value"}) from None


def shown(path: Path) -> str:
    """A place in a text as its reader would write it: `services[0].memory`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def line_of(path: Path, lines: Mapping[Path, int]) -> int | None:
    """The line of a place, or of the nearest one around it."""
    while path not in lines and path:
        path = path[:-1]
    return lines.get(path)


def _explained(error: ValidationError, lines: Mapping[Path, int], what: str) -> dict[str, str]:
    found: dict[str, str] = {}
    places = {shown(path): path for path in lines}
    for item in error.errors(include_url=False, include_context=False):
        path = _existing(tuple(item["loc"]), lines)
        reason = item["msg"].removeprefix("Value error, ")
        reason = _NO_MAPPING if item["type"] == "model_type" else _REPLACED.get(reason, reason)
        if item["type"] == "missing":
            path = (*path, str(item["loc"][-1])) if not path or path[-1] != item["loc"][-1] else path
        head, _, rest = reason.partition(": ")
        if rest and (within := places.get(shown(path) + f".{head}" if path else head)) is not None:
            path, reason = within, rest
        line = line_of(path, lines)
        name = shown(path) or what
        found.setdefault(f"line {line}: {name}" if line is not None else name, reason)
    return found


def _existing(loc: tuple[str | int, ...], lines: Mapping[Path, int]) -> Path:
    """The part of pydantic's place that is in the text: pydantic adds names of types and validators."""
    path: Path = ()
    for part in loc:
        if (*path, part) in lines:
            path = (*path, part)
    return path
