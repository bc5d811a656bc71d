"""`advise`: which kind of guest a service should be, and why."""

import sys
from pathlib import Path
from typing import Any

import typer

from bastide.base.errors import InvalidParameter, NotFound
from bastide.cli import advice_text, output
from bastide.cli import advise_options as options
from bastide.cli.catalog import host_folder
from bastide.cli.launch import ensure_daemon
from bastide.cli.session import Session


def advise(
    ctx: typer.Context,
    service: options.Service = None,
    *,
    os: options.Os = None,
    name: options.Name = None,
    file: options.File = None,
    exposure: options.Exposure = None,
    isolation: options.Isolation = None,
    tenants: options.Tenants = None,
    engine: options.Engine = None,
    untrusted_code: options.UntrustedCode = None,
    nfs: options.Nfs = None,
    nested: options.Nested = None,
    live_migration: options.LiveMigration = None,
    appliance: options.Appliance = None,
    ephemeral: options.Ephemeral = None,
    priority: options.Priority = None,
    device: options.Device = None,
    own_kernel: options.OwnKernel = None,
    kernel_version: options.KernelVersion = None,
    kernel_module: options.KernelModule = None,
    kernel_parameter: options.KernelParameter = None,
    kernel_tracing: options.KernelTracing = None,
    cores: options.Cores = None,
    memory: options.Memory = None,
    disk: options.Disk = None,
    instances: options.Instances = None,
    kind: options.Kind = None,
    ct: options.Ct = False,
    vm: options.Vm = False,
    catalog: options.Catalog = None,
) -> None:
    """Say which kind of guest a service should be, and why.

    Without arguments some questions are asked. What is not said is taken from the catalog, or assumed and told.
    Nothing is made.
    """
    session: Session = ctx.obj
    chosen = {kind, *(["ct"] if ct else []), *(["vm"] if vm else [])} - {None}
    if len(chosen) > 1:
        raise InvalidParameter({"kind": "one kind only: ct or vm"})
    kernel = {
        "own": own_kernel, "version": kernel_version, "modules": list(kernel_module or ()),
        "parameters": list(kernel_parameter or ()), "tracing": kernel_tracing,
    }  # fmt: skip
    given = _said({
        "service": service, "os": os, "name": name, "exposure": exposure, "isolation": isolation, "tenants": tenants,
        "engine": engine, "untrusted_code": untrusted_code, "nfs": nfs, "nested_virtualization": nested,
        "live_migration": live_migration, "appliance": appliance, "ephemeral": ephemeral, "priority": priority,
        "devices": list(device or ()), "kernel": _said(kernel), "cores": cores, "memory": memory, "disk": disk,
        "instances": instances, "kind": next(iter(chosen), None),
    })  # fmt: skip
    _answer(session, given, file, host_folder(session, catalog))


def ask(session: Session, service: dict[str, Any], folder: dict[str, str]) -> dict[str, Any]:
    """The advice for a service, as the API answers it. `folder` is of `host_folder`."""
    answer: dict[str, Any] = session.client().post("/architect/advise", {**service, **folder})
    return answer


def _answer(session: Session, given: dict[str, Any], file: str | None, folder: dict[str, str]) -> None:
    if file is not None:
        text = _read(file)
        service = {**_parsed(text, file), **given}  # what is wrong in it is told before a daemon is started
        ensure_daemon(session)
        advice = _ask_with_lines(session, service, folder, text, file)
    else:
        ensure_daemon(session)
        if given.keys() <= {"kind", "name"}:
            from bastide.cli.interview import interview  # noqa: PLC0415 - only who says nothing is asked

            given = {**interview(session, folder), **given}
        advice = ask(session, given, folder)
    if session.json:
        output.emit_json(advice)
    else:
        advice_text.show(advice, session.root_option)


def _said(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value not in (None, [], {})}


def _read(file: str) -> str:
    from bastide.model.documents import TEXT_LIMIT  # noqa: PLC0415 - YAML is read for -f alone

    try:
        if file == "-":
            return sys.stdin.read(TEXT_LIMIT + 1)
        with Path(file).expanduser().open(encoding="utf-8") as opened:
            return opened.read(TEXT_LIMIT + 1)
    except UnicodeDecodeError:
        raise InvalidParameter({"file": f"{file} is not UTF-8 text"}) from None
    except OSError as error:
        raise InvalidParameter({"file": f"{file} cannot be read: {error.strerror}"}) from None


def _parsed(text: str, file: str) -> dict[str, Any]:
    """The service that a text holds. Raises InvalidParameter, its keys such as `blog.yaml: line 4: memory`."""
    from bastide.model import documents  # noqa: PLC0415 - as above
    from bastide.model.service import Service  # noqa: PLC0415

    try:
        service = documents.parse(text, Service, "file")
    except InvalidParameter as error:
        errors = dict(sorted(error.errors.items(), key=lambda item: _line(item[0])))
        raise InvalidParameter({f"{file}: {place}": why for place, why in errors.items()}) from None
    return service.model_dump(mode="json", exclude_unset=True, exclude_none=True)


def _line(place: str) -> int:
    """The line that an error's place begins with; 0 for one of the whole file."""
    number = place.removeprefix("line ").partition(":")[0]
    return int(number) if number.isdigit() else 0


def _ask_with_lines(
    session: Session, service: dict[str, Any], folder: dict[str, str], text: str, file: str
) -> dict[str, Any]:
    """The advice for a file's service; what the daemon finds wrong names the line too."""
    try:
        return ask(session, service, folder)
    except InvalidParameter as error:
        raise InvalidParameter({_place(text, file, key): why for key, why in error.errors.items()}) from None
    except NotFound as error:
        raise NotFound(f"{_place(text, file, 'service')}: {error}") from None


def _place(text: str, file: str, key: str) -> str:
    from bastide.model import documents  # noqa: PLC0415 - as above

    _, lines = documents.load(text)
    line = lines.get((key.rstrip("0123456789"),)) or lines.get((key,))
    return f"{file}: line {line}: {key}" if line is not None else key
