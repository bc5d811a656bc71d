"""What the renderers share: how values are written for QEMU, what the plan's machine is, how a refusal reads.

QEMU takes JSON for -device, -object, -netdev, -blockdev and -audiodev (its manual, since 7.2); there no character of a
value means anything. The older form, `key=value,key=value`, doubles a comma in a value.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from bastide.base.errors import InvalidParameter, NotSupported
from bastide.guest.vm_protocol import VmPlan
from bastide.host.qemu_facts import HostFacts
from bastide.model.record import forbidden_character

Properties = dict[str, Any]
"""A device, object, network backend or node in QEMU's own names: what QMP takes, and -device as JSON."""

_ID = re.compile(r"[A-Za-z][A-Za-z0-9._-]*", re.ASCII)
_VERSION = re.compile(r"-([0-9]+(?:\.[0-9]+)+)$", re.ASCII)


def json_text(values: Mapping[str, Any]) -> str:
    """A JSON argument. Raises InvalidParameter when a text in it holds a control character."""
    _check_texts(values)
    return json.dumps(values, separators=(",", ":"))


def option_text(values: Mapping[str, str | int | bool | Sequence[str]], first: str | None = None) -> str:
    """An argument of the form `first,key=value,...`; a list repeats its key. Switches become `on` and `off`.

    Raises InvalidParameter when a value holds a control character.
    """
    parts = [_doubled(first)] if first is not None else []
    for key, value in values.items():
        if isinstance(value, bool):
            parts.append(f"{key}={'on' if value else 'off'}")
        elif isinstance(value, (str, int)):
            parts.append(f"{key}={_doubled(str(value))}")
        else:
            parts += [f"{key}={_doubled(one)}" for one in value]
    return ",".join(parts)


def unsupported(option: str, why: str) -> NotSupported:
    """The error for an option that this host's QEMU cannot fulfil; its text names the option first."""
    return NotSupported(f"{option}: {why}")


def invalid(option: str, why: str) -> InvalidParameter:
    """The error for an option that contradicts another, or that no QEMU can fulfil."""
    return InvalidParameter({option: why})


def check_id(text: str, option: str) -> str:
    """The text, if QEMU takes it as a name where nothing can be quoted (CPU models and flags)."""
    if _ID.fullmatch(text) is None:
        raise invalid(option, f"'{text[:60]}' is not a name that QEMU knows")
    return text


def uses_kvm(plan: VmPlan, host: HostFacts) -> bool:
    """Whether this VM runs by KVM: the host can, and the VM's `kvm` is not off."""
    return host.accelerator == "kvm" and plan.config.kvm is not False


def is_q35(plan: VmPlan) -> bool:
    """Whether the machine has PCI Express (q35) and not PCI alone (i440fx)."""
    return "q35" in plan.machine


def machine_type(plan: VmPlan) -> str:
    """QEMU's name of the machine: the pinned one without Proxmox VE's own revision (`+pve0`)."""
    return plan.machine.partition("+")[0].removesuffix(".pxe")


def machine_version(plan: VmPlan) -> tuple[int, ...]:
    """The version of the pinned machine; (0,) when it has none."""
    match = _VERSION.search(machine_type(plan))
    return tuple(int(part) for part in match[1].split(".")) if match is not None else (0,)


def needs_device(host: HostFacts, driver: str, option: str) -> None:
    """Raise NotSupported, naming the option, when this QEMU has no such device."""
    if driver not in host.emulator.devices:
        raise unsupported(option, f"this host's QEMU has no device {driver}")


def _doubled(text: str) -> str:
    _check_texts(text)
    return text.replace(",", ",,")


def _check_texts(value: Any) -> None:
    if isinstance(value, str):
        found = forbidden_character(value)
        if found is not None:
            raise invalid("value", f"control character {found} is not allowed")
    elif isinstance(value, Mapping):
        for one in value.values():
            _check_texts(one)
    elif isinstance(value, (list, tuple)):
        for one in value:
            _check_texts(one)
