"""`launch` by a service's name: the architect picks kind, size and settings, and the catalog's recipe installs it."""

import difflib
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import typer

from bastide.base import propstring, units
from bastide.base.errors import BastideError, InvalidParameter, NotFound
from bastide.cli import images, launch, output, progress
from bastide.cli.advice_text import because
from bastide.cli.catalog import host_folder
from bastide.cli.launch_options import Asked
from bastide.cli.launching import Made
from bastide.cli.session import Session
from bastide.client.http import segment

_NAME_TRIES = 1000
_OWN = frozenset({
    "vmid", "hostname", "name", "ostemplate", "rootfs", "scsi0", "sata0", "ide2", "ipconfig0", "ciupgrade", "tags",
})  # fmt: skip
"""Parameters that launch finds by itself, and knows better."""

_OVERRULES: Mapping[str, tuple[str, ...]] = {
    "net0": ("net", "bridge", "ip", "gateway"),
    "unprivileged": ("privileged",),
    "features": ("nesting",),
    "onboot": ("onboot",),
    "machine": ("machine",),
    "cpu": ("cpu",),
    "ostype": ("os",),
    "bios": ("uefi", "secure_boot"),
    "efidisk0": ("uefi", "secure_boot"),
    "tpmstate0": ("tpm",),
}
"""Which of launch's parameters, when they are given, stand above a parameter of the advice."""

Entry = dict[str, Any]
Advice = dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Launched:
    """A guest that was made of a service, and whether the service is in it."""

    entry: Entry
    advice: Advice
    made: Made
    addresses: list[str]
    installed: bool
    status: str = "running"


def run(session: Session, asked: Asked) -> None:
    """Make a guest of an image or, where no image is called so, of a service. Raises NotFound for neither."""
    launch.maker_of(asked).local_parameters(replace(asked, password_stdin=False))  # what is wrong is told first
    launch.ensure_daemon(session)
    buildable = session.client().get("/bastide/images/buildable", name=asked.image)
    if buildable or images.find(session, asked.image) is not None:
        launch.run(session, asked)
        return
    folder = host_folder(session, asked.catalog)
    try:
        entry = session.client().get(f"/architect/catalog/{segment(asked.image)}", **folder)
    except (NotFound, InvalidParameter) as error:
        _run_image(session, asked, str(error))
        return
    _launch(session, asked, entry, folder)


def _run_image(session: Session, asked: Asked, unknown_service: str) -> None:
    """What is no service may still be an image of an image server's."""
    names = {row["name"] for row in session.client().get("/bastide/images/buildable")}
    near = difflib.get_close_matches(asked.image, names | {output.image_name(row) for row in images.known(session)})
    hint = f"no such image '{asked.image}' either" + (f"; did you mean {', '.join(near)}?" if near else "")
    if not asked.name:
        raise NotFound(f"{unknown_service}\n{hint}")
    try:
        launch.run(session, asked)
    except NotFound as error:
        if images.find(session, asked.image) is not None:
            raise  # it came: something else is missing
        raise NotFound(f"{error}\n{unknown_service}\n{hint}") from None


def _launch(session: Session, asked: Asked, entry: Entry, folder: dict[str, str]) -> None:
    began = time.monotonic()
    if not _is_called(entry, asked.image):
        output.note(f"'{asked.image}' is taken as {entry['name']}: {entry['title']}")
    asked = replace(asked, name=asked.name or _free_name(session, entry["name"]))
    advice = session.client().post("/architect/advise", {**_service(asked, entry), **folder})
    output.note(because(advice))
    for text in _warnings(advice):
        output.note(f"warning: {text}")
    asked = _as_advised(session, asked, advice, entry)
    made, addresses = launch.make(session, asked, _settled(asked, advice))
    installed = bool(advice["installs"]) and not asked.no_start
    if installed:
        _install(session, asked, made, entry, folder)
    _tell(
        session,
        _Launched(entry, advice, made, addresses, installed, "stopped" if asked.no_start else "running"),
        time.monotonic() - began,
    )


def _service(asked: Asked, entry: Entry) -> dict[str, Any]:
    """What is asked of the architect: the entry, and what was said on the command line."""
    service: dict[str, Any] = {"service": entry["name"], "name": asked.name}
    if asked.vm or asked.ct:
        service["kind"] = "vm" if asked.vm else "ct"
    if asked.cores is not None:
        service["cores"] = asked.cores
    if "memory" in asked.explicit:
        service["memory"] = units.format_size(asked.mebibytes * units.MIB)
    if "disk" in asked.explicit:
        service["disk"] = units.format_size(asked.disk_size)
    return service


def _warnings(advice: Advice) -> list[str]:
    """Warnings and conflicts without a missing image, which launch gets, and the kind, of which the reason tells."""
    return [text for text in (*advice["warnings"], *advice["conflicts"]) if not text.startswith(("image: ", "kind: "))]


def _as_advised(session: Session, asked: Asked, advice: Advice, entry: Entry) -> Asked:
    """What is asked, filled up by the advice. Raises NotFound for a system that launch cannot bring."""
    parameters, sizing = advice["request"]["parameters"], advice["sizing"]
    disk = str(parameters.get("rootfs") or parameters.get("scsi0") or parameters.get("sata0"))
    image = parameters.get("ostemplate") or propstring.parse(disk, "file").get("import-from")
    cd = None if image else propstring.parse(str(parameters.get("ide2", "none")), "file").get("file")
    if cd == "none" or (image is not None and ":import/" in image and images.find(session, image) is None):
        raise NotFound(_by_hand(session, advice, entry))
    return replace(
        asked,
        image=str(image or ""),
        iso=cd,
        os=asked.os or parameters.get("ostype"),
        vm=advice["kind"] == "vm",
        cores=sizing["cores"],
        memory=units.format_size(sizing["memory"]),
        disk=units.format_size(sizing["disk"]),
        storage=asked.storage if "storage" in asked.explicit else disk.partition(":")[0],
        tag=list(dict.fromkeys([*str(parameters.get("tags", "")).split(";"), *(asked.tag or [])])),
    )


def _by_hand(session: Session, advice: Advice, entry: Entry) -> str:
    """What a person has to bring for a system that is made of no image that launch can get, and the command then."""
    where = f"\nits makers tell where it is: {entry['upstream']}" if entry.get("upstream") else ""
    missing = next((text.removeprefix("image: ") for text in advice["warnings"] if text.startswith("image: ")), "")
    command = advice["command"].replace("bastide launch", f"bastide launch{session.root_option}", 1)
    return f"{entry['title']} is installed from its own medium, which does not exist here: {missing}\n{command}{where}"


def _settled(asked: Asked, advice: Advice) -> dict[str, Any]:
    """The advice's parameters that launch takes over: all but its own, and those that the command line overrules."""
    settled: dict[str, Any] = {}
    for key, value in advice["request"]["parameters"].items():
        if key in _OWN or not asked.explicit.isdisjoint(_OVERRULES.get(key, ())):
            continue
        is_volume = key in ("efidisk0", "tpmstate0")
        settled[key] = f"{asked.storage}:{str(value).partition(':')[2]}" if is_volume else value
    return settled


def _install(session: Session, asked: Asked, made: Made, entry: Entry, folder: dict[str, str]) -> None:
    """Install the service; when that fails the guest goes, unless it is to be kept."""
    root = session.root_option
    wanted = {"guest": made.vmid, "service": entry["name"], **folder}

    def install() -> None:
        made.upid = str(session.client().post("/architect/install", wanted))
        progress.follow(session, made.upid, f"installing {entry['title']}", leave=False)

    try:
        install() if asked.keep else launch.or_undo(session, made, install)
    except BastideError:
        output.note(f"what was done in it: bastide task log{root} '{made.upid}'")
        if asked.keep:
            again = " ".join(f"{key}={value}" for key, value in wanted.items())
            output.note(f"{made.name} ({made.vmid}) was kept: bastide exec{root} {made.name}")
            output.note(f"to try again: bastide api create{root} /architect/install {again} --wait")
        else:
            output.note("the guest was removed; --keep keeps it, to look inside and to try again")
        raise


def _tell(session: Session, done: _Launched, took: float) -> None:
    entry, made = done.entry, done.made
    places = _places(entry, done.addresses[0]) if done.installed and done.addresses else []
    if session.json:
        output.emit_json({
            "vmid": made.vmid, "name": made.name, "status": done.status, "addresses": done.addresses,
            "kind": done.advice["kind"], "service": entry["name"], "installed": done.installed, "answers": places,
        })  # fmt: skip
        return
    shown = [output.styled(text, "36") for text in [*done.addresses[:1], *places]]
    print("  ".join([str(made.vmid), output.styled(made.name, "1"), *shown]))
    for text in entry.get("notes", ()) if done.installed else ():
        output.note(text)
    if done.installed:
        output.note(f"{entry['title']} answers after {took:.0f} s; all reasons: bastide advise {entry['name']}")
    elif done.advice["installs"]:
        install = (
            f"bastide api create{session.root_option} /architect/install guest={made.vmid} service={entry['name']}"
        )
        output.note(f"{entry['title']} is not installed yet: start it, then {install} --wait")
    else:
        upstream = f": {entry['upstream']}" if entry.get("upstream") else ""
        output.note(f"the catalog has no recipe for {entry['title']}: install it as its makers say{upstream}")


def _places(entry: Entry, address: str) -> list[str]:
    """Where the service answers: a URL where it speaks HTTP, else its ports."""
    host = f"[{address}]" if ":" in address else address
    probe = (entry.get("recipe") or {}).get("probe", {})
    places: list[str] = []
    for port in entry.get("ports", ()):
        number, protocol = port["port"], port.get("protocol", "tcp")
        if probe.get("type") in ("http", "https") and probe.get("port") == number:
            usual = {"http": 80, "https": 443}[probe["type"]] == number
            return [f"{probe['type']}://{host}" + ("" if usual else f":{number}")]
        places.append(f"{number}/{protocol}")
    return places


def _is_called(entry: Entry, text: str) -> bool:
    squashed = re.sub(r"[\s._-]+", "", text.lower())
    return squashed in {re.sub(r"[\s._-]+", "", name) for name in (entry["name"], *entry.get("aliases", ()))}


def _free_name(session: Session, entry: str) -> str:
    """The entry's name as a host name, with a number where guests have it already."""
    taken = {row.get("name") for row in session.client().get("/bastide/guests")}
    base = re.sub(r"[^a-z0-9]+", "-", entry).strip("-") or "guest"
    names = (base if number == 1 else f"{base}-{number}" for number in range(1, _NAME_TRIES))
    found = next((name for name in names if name not in taken), None)
    if found is None:
        raise typer.BadParameter(f"a thousand guests are called {base}: give this one a NAME")
    return found
