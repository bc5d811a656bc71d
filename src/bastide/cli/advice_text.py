"""An advice as text for people: the kind first, then why, what it would take to be the other, and how to make it."""

import shlex
import shutil
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bastide.cli import output

KINDS = {"ct": "container", "vm": "VM"}
"""What sentences call the kinds of an advice."""

_INDENT = 11
_NARROWEST = 40
_UNLIMITED = 100_000  # a pipe has no width: whoever reads it breaks lines as they like
_QUESTIONS = 4
_ITEM = "· "
_SIZES = ("cores", "memory")  # told with the size
_BOLD, _DIM, _WARNING = "1", "2", "1;33"
_COLOURS = {"ct": "1;32", "vm": "1;36"}
_ARTICLE = {"ct": "a container", "vm": "a VM"}
_OTHER = {"ct": "vm", "vm": "ct"}
_OPTIONS = {"nested_virtualization": "nested", "devices": "device"}

Advice = Mapping[str, Any]
Styled = tuple[str, str]  # text and its style, empty for none


def show(advice: Advice, root_option: str = "") -> None:
    """Print an advice."""
    for text in render(advice, _width(), root_option):
        print(text)


def render(advice: Advice, width: int, root_option: str = "") -> list[str]:
    """The lines of an advice, at most `width` columns wide as far as words allow."""
    kind = advice["kind"]
    parts = [
        [*_head(advice, width), *_paragraph(advice["summary"], width, indent=0)],
        [*_labelled("warning", [(text, _WARNING) for text in advice["warnings"]], width),
         *_labelled("conflict", [(text, _WARNING) for text in advice["conflicts"]], width)],
        [*_labelled("why", _rules(advice["rules"]), width),
         *_labelled(f"for {_ARTICLE[_OTHER[kind]]}", _rules(advice["against"]), width),
         *_labelled("unless", _unless(advice["unless"]), width)],
        _labelled("settings", _settings(advice), width),
        [*_labelled("size", _size(advice["sizing"]), width), *_labelled("cost", _costs(advice), width)],
        [*_labelled("assumed", _assumed(advice["assumed"]), width),
         *_labelled("tell", _questions(advice["questions"]), width),
         *_labelled("note", _plain(advice["notes"]), width)],
        [*_labelled("make it", [(_with_root(advice["command"], root_option), _BOLD)], width),
         *_labelled("by API", _request(advice["request"]), width)],
    ]  # fmt: skip
    lines: list[str] = []
    for part in parts:
        lines += [*([""] if lines and part else []), *part]
    return lines


def _head(advice: Advice, width: int) -> list[str]:
    title = advice["name"] if advice["name"] == advice["title"] else f"{advice['name']} ({advice['title']})"
    *before, last = _paragraph(f"{title}: {_ARTICLE[advice['kind']]}", width, 0, _COLOURS[advice["kind"]])
    sure = f"confidence: {advice['confidence']}"
    if len(title) + len(sure) + _INDENT + 4 > width:
        return [*before, last, _dim(sure)]
    return [*before, f"{last}  {_dim(sure)}"]


def because(advice: Advice) -> str:
    """The advice in one line: `nginx: container, because it is a Linux service ...`."""
    head, _, reasons = str(advice["summary"]).partition(": ")
    if not reasons or " because " in head:  # overruled: the sentence itself says so
        return str(advice["summary"])
    return f"{advice['name']}: {KINDS[advice['kind']]}, because {reasons.rstrip('.')}"


def _width() -> int:
    return max(_NARROWEST, shutil.get_terminal_size().columns) if sys.stdout.isatty() else _UNLIMITED


def _dim(text: str) -> str:
    return output.styled(text, _DIM)


def _paragraph(text: str, width: int, indent: int = _INDENT, style: str = "") -> list[str]:
    """The lines of a text; those of an item of a list, which begins with a dot, hang."""
    hanging = "  " if text.startswith(_ITEM) else ""
    lines = textwrap.wrap(
        output.clean(text), width - indent, subsequent_indent=hanging, break_long_words=False, break_on_hyphens=False
    )
    return [" " * indent + (output.styled(line, style) if style else line) for line in lines or [""]]


def _labelled(label: str, texts: Iterable[Styled], width: int) -> list[str]:
    """Paragraphs beside a label, which stands on a line of its own where it is too long."""
    lines = [line for text, style in texts for line in _paragraph(text, width, style=style)]
    if not lines:
        return []
    if len(label) < _INDENT - 1:
        return [output.styled(label, _BOLD) + lines[0][len(label) :], *lines[1:]]
    return [output.styled(label, _BOLD), *lines]


def _plain(texts: Iterable[str]) -> list[Styled]:
    return [(text, "") for text in texts]


def _rules(rules: Iterable[Mapping[str, str]]) -> list[Styled]:
    lines: list[Styled] = []
    for rule in rules:
        lines.append((rule["statement"], ""))
        lines.append((f"{rule['id']}, {rule['strength']}: {rule['because']}", _DIM))
    return lines


def _unless(sentences: Sequence[str]) -> list[Styled]:
    """Sentences; what several of them begin with is said once."""
    heads = {sentence.partition(" if ")[0] for sentence in sentences}
    if len(sentences) < 2 or len(heads) > 1 or not all(" if " in sentence for sentence in sentences):
        return _plain(sentences)
    rests = [sentence.partition(" if ")[2].rstrip(".") for sentence in sentences]
    return [(f"{heads.pop()} if", ""), *((f"{_ITEM}{rest}", "") for rest in rests)]


def _settings(advice: Advice) -> list[Styled]:
    """Options with their reasons; then reasons for what is left as it is."""
    options, reasons = advice["settings"], advice["reasons"]
    lines = [
        (f"{_ITEM}{key}={value}" + (f"  {reasons[key]}" if key in reasons else ""), "")
        for key, value in options.items()
        if key not in _SIZES
    ]
    return lines + [(f"{_ITEM}{key}: {reason}", _DIM) for key, reason in reasons.items() if key not in options]


def _size(sizing: Mapping[str, Any]) -> list[Styled]:
    cores, instances = sizing["cores"], sizing["instances"]
    text = (
        f"{cores} core{'s' if cores != 1 else ''}, {output.size(sizing['memory'])} memory, "
        f"{output.size(sizing['disk'])} disk"
    )
    each = f", for each of {instances} instances" if instances > 1 else ""
    reasons: dict[str, list[str]] = {}
    for key, reason in sizing["because"].items():
        reasons.setdefault(reason, []).append(key)
    told = "; ".join(f"{', '.join(keys)}: {reason}" for reason, keys in reasons.items())
    return [(text + each, ""), *([(told, _DIM)] if told else [])]


def _costs(advice: Advice) -> list[Styled]:
    """What either kind takes, then where the figures are from, once where both are from one place."""
    costs = [cost for cost in (advice["cost"], advice["cost_other"]) if cost is not None]
    told = [(cost, figures) for cost in costs if (figures := _figures(cost))]
    lines: list[Styled] = []
    for index, (cost, figures) in enumerate(told):
        emulated = " (emulated, without KVM)" if cost["emulated"] else ""
        lines.append((f"{KINDS[cost['kind']]}: {figures}{emulated}", ""))
        if index + 1 == len(told) or _source(cost) != _source(told[index + 1][0]):
            lines.append((_source(cost), _DIM))
    return lines


def _figures(cost: Mapping[str, Any]) -> str:
    parts = []
    if cost["memory"] is not None:
        parts.append(f"{output.size(cost['memory'])} memory when idle")
    if cost["disk"] is not None:
        parts.append(f"{output.size(cost['disk'])} disk")
    if cost["deploy"] is not None:
        parts.append(f"{cost['deploy']:.1f} s to deploy")
    if cost["start"] is not None:
        parts.append(f"{cost['start']:.1f} s to start")
    if cost["density"] is not None:
        parts.append(f"{cost['density']:.0f} of it in 1 GB")
    if cost["cpu"] is not None:
        parts.append(f"{cost['cpu']:.0%} of the host's speed")
    return ", ".join(parts)


def _source(cost: Mapping[str, Any]) -> str:
    where = "measured on this host" if cost["source"] == "measured" else "published figures"
    note = f": {cost['note']}" if cost["note"] else ""
    return f"{where}, {str(cost['taken'])[:10]}{note}"


def _assumed(sentences: Sequence[str]) -> list[Styled]:
    """`exposure: lan; tenants: trusted`: what a sentence goes on to explain is in the JSON."""
    text = "; ".join(": ".join(sentence.split(": ")[:2]) for sentence in sentences)
    return [(text, "")] if text else []


def _questions(questions: Sequence[Mapping[str, Any]]) -> list[Styled]:
    lines: list[Styled] = []
    for question in questions[:_QUESTIONS]:
        lines.append((question["question"], ""))
        lines.append((f"{answers(question)} (assumed: {question['assumed']})", _DIM))
    left = len(questions) - _QUESTIONS
    if left > 0:
        lines.append((f"and {left} more: bastide advise without arguments asks them", _DIM))
    return lines


def answers(question: Mapping[str, Any]) -> str:
    """The option that answers a question: `--exposure internet|lan|none`."""
    option = "--" + _OPTIONS.get(question["key"], question["key"]).replace("_", "-")
    if set(question["choices"]) == {"true", "false"}:
        return f"{option} or --no-{option.removeprefix('--')}"
    return f"{option} {'|'.join(question['choices'])}"


def _request(request: Mapping[str, Any]) -> list[Styled]:
    shown = " ".join(f"{key}={shlex.quote(str(value))}" for key, value in request["parameters"].items())
    return [(f"{request['method']} /api2/json{request['path']}", ""), (shown, _DIM)]


def _with_root(command: str, root_option: str) -> str:
    return command.replace("bastide launch ", f"bastide launch{root_option} ", 1)
