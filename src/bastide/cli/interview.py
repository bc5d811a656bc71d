"""The questions of `advise` without arguments: what to run, and then what the architect itself wants to know.

Questions go to standard error and answers come from standard input, a line each, so that a pipe can answer too. An
empty line, and every line that is missing at the end, means the default.
"""

import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from bastide.base.errors import InvalidParameter, NotFound
from bastide.cli import output
from bastide.cli.session import Session

LIMIT = 8
_SHOWN = 8
_NOTHING = "none"
_DEFAULT_SYSTEM = "debian-12"
_YES, _NO = ("y", "yes", "true", "1"), ("n", "no", "false", "0")
_DEVICE_TYPES = ("gpu", "pci", "usb", "serial", "disk", "tun", "fuse", "kvm", "sound")
_SWITCH = {"true", "false"}


class Asker:
    """Asks at most LIMIT questions."""

    def __init__(self) -> None:
        self.left = LIMIT
        self._ended = False

    def ask(self, question: str, default: str, choices: Sequence[str] = ()) -> str:
        """The answer to one question, asked again until it is one of the choices; the default at the input's end."""
        self.left -= 1
        hint = f" {output.clean('/'.join(choices))}" if choices else ""
        while True:
            answer = self._line(f"{output.clean(question)}{hint}" + (f" [{default}]" if default else "")) or default
            if not choices or answer in choices:
                return answer
            word = answer.lower()
            meant = [one for one in choices if one.startswith(word) or one.partition(":")[2].startswith(word)]
            if len(meant) == 1:
                return meant[0]
            output.note(f"  one of {', '.join(choices)}")

    def switch(self, question: str, default: bool) -> bool:
        """Yes or no."""
        self.left -= 1
        while True:
            answer = self._line(f"{output.clean(question)} yes/no [{'yes' if default else 'no'}]").lower()
            if not answer or answer in _YES or answer in _NO:
                return default if not answer else answer in _YES
            output.note("  yes or no")

    def _line(self, prompt: str) -> str:
        if self._ended:
            return ""
        sys.stderr.write(f"{output.styled(prompt, '1')} ")
        sys.stderr.flush()
        text = sys.stdin.readline()
        self._ended = not text
        if not sys.stdin.isatty():
            sys.stderr.write(f"{output.clean(text.strip())}\n")  # a terminal shows what is typed, a pipe does not
        return text.strip()


def interview(session: Session, folder: Mapping[str, str]) -> dict[str, Any]:
    """A service as its owner answers for it. `folder` is of `cli.catalog.host_folder`."""
    asker = Asker()
    service = _what(session, asker, folder)
    if "service" not in service:
        service |= _unknown(session, asker)
    seen: set[str] = set()
    while asker.left > 0:
        advice = session.client().post("/architect/advise", {**service, **folder})
        unasked = [one for one in advice["questions"] if one["question"] not in seen]
        question = min(
            unasked, key=lambda one: one["key"] != "devices", default=None
        )  # how it uses hardware comes first
        if question is None:
            break
        seen.add(question["question"])
        _answer(asker, question, service)
    output.note("")
    return service


def _what(session: Session, asker: Asker, folder: Mapping[str, str]) -> dict[str, Any]:
    """The catalog's entry that is meant, or a name for what is none."""
    text = asker.ask("What do you want to run?", "")
    name = _entry_of(session, asker, text, folder) if text else None
    if name is None:
        if text:
            output.note(f"  '{text}' is not in the catalog: tell about it")
        name = "-".join(re.findall(r"[a-z0-9]+", text.lower()))[:63].strip("-")
        return {"name": name} if re.search("[a-z]", name) else {}
    from bastide.client.http import segment  # noqa: PLC0415 - imported by the client already

    entry = session.client().get(f"/architect/catalog/{segment(name)}", **folder)
    output.note(f"  {entry['title']}: {entry['summary']}")
    return {"service": entry["name"]}


def _entry_of(session: Session, asker: Asker, text: str, folder: Mapping[str, str]) -> str | None:
    from bastide.client.http import segment  # noqa: PLC0415 - as above

    rows = session.client().get("/architect/catalog", query=text, **folder)
    word = text.lower().replace(" ", "-")
    named = next((row for row in rows if word in (row["name"], *row["aliases"])), None)
    if named is not None or len(rows) == 1:
        return str((named or rows[0])["name"])
    if not rows:
        try:
            return str(session.client().get(f"/architect/catalog/{segment(text[:80])}", **folder)["name"])
        except (NotFound, InvalidParameter):
            return None
    names = [str(row["name"]) for row in rows[:_SHOWN]]
    for row in rows[:_SHOWN]:
        output.note(f"  {row['name']}: {row['title']}")
    chosen = asker.ask("Which of them?", _NOTHING, [*names, _NOTHING])
    return None if chosen == _NOTHING else chosen


def _unknown(session: Session, asker: Asker) -> dict[str, Any]:
    """What no catalog tells: the system, and the hardware."""
    system = _DEFAULT_SYSTEM
    while asker.left > 1:
        system = asker.ask("Which operating system? debian-12, windows-11, opnsense ...", _DEFAULT_SYSTEM)
        try:
            session.client().post("/architect/advise", {"os": system})
            break
        except InvalidParameter as error:
            output.note(f"  {error.errors.get('os', error)}")
            system = _DEFAULT_SYSTEM
    devices = asker.ask(f"Which hardware of this host does it use? {', '.join(_DEVICE_TYPES)}", _NOTHING)
    found = [word for word in devices.replace(",", " ").lower().split() if word.partition(":")[0] in _DEVICE_TYPES]
    return {"os": system, "devices": found}


def _answer(asker: Asker, question: Mapping[str, Any], service: dict[str, Any]) -> None:
    key, choices = question["key"], question["choices"]
    if set(choices) == _SWITCH:
        service[key] = asker.switch(question["question"], question["assumed"] == "true")
        return
    answer = asker.ask(question["question"], question["assumed"], choices)
    if key == "devices":
        kind = answer.partition(":")[0]
        others = [one for one in service.get("devices", ()) if one.partition(":")[0] != kind]
        service["devices"] = [answer, *others]
    else:
        service[key] = answer
