"""UEFI firmware for VMs (OVMF) as it is installed: code, the template of its variables, what it can do.

The descriptors in /usr/share/qemu/firmware (QEMU's docs/interop/firmware.json) name the images of 4 MiB; Debian's older
ones of 2 MiB have none and are known by their file names.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bastide.base.units import MIB

ROOT = Path("/")
_DESCRIPTORS = ("etc/qemu/firmware", "usr/share/qemu/firmware")
_OVMF = "usr/share/OVMF"
_SMALL = ("OVMF_CODE.fd", "OVMF_VARS.fd")

EfiType = Literal["2m", "4m"]


@dataclass(frozen=True, slots=True)
class Firmware:
    """A firmware in two raw flash images: `code` is shared and read only, `variables` is copied for each VM.

    `smm` says that it needs a q35 machine with system management mode, as Secure Boot does.
    """

    code: Path
    variables: Path
    efitype: EfiType
    secure_boot: bool = False
    enrolled_keys: bool = False
    smm: bool = False


def installed(root: Path = ROOT) -> tuple[Firmware, ...]:
    """The firmware for x86_64 guests that is installed below `root`; a descriptor in /etc hides its namesake."""
    names: dict[str, Path] = {}
    for folder in _DESCRIPTORS:
        for file in sorted((root / folder).glob("*.json")):
            names.setdefault(file.name, file)
    found: list[Firmware] = []
    for _, file in sorted(names.items()):
        try:
            firmware = parse_descriptor(file.read_text(), root)
        except OSError:
            continue
        if firmware is not None and firmware not in found:
            found.append(firmware)
    code, variables = (root / _OVMF / name for name in _SMALL)
    if code.is_file() and variables.is_file():
        found.append(Firmware(code, variables, "2m"))
    return tuple(found)


def parse_descriptor(text: str, root: Path = ROOT) -> Firmware | None:
    """Read a descriptor; None when it is not UEFI for x86_64 in raw flash images, or its files are not there."""
    try:
        told: Any = json.loads(text)
        features = set(told.get("features", ()))
        mapping = told["mapping"]
        images = mapping["executable"], mapping["nvram-template"]
        suits = (
            "uefi" in told["interface-types"]
            and any(target["architecture"] == "x86_64" for target in told["targets"])
            and mapping["device"] == "flash"
            and all(image["format"] == "raw" for image in images)
            # Built for confidential guests only, whose memory and start are other than an ordinary one's.
            and mapping.get("mode", "split") == "split"
        )
        code, variables = (root / str(image["filename"]).lstrip("/") for image in images)
        size = code.stat().st_size + variables.stat().st_size
    except (ValueError, KeyError, TypeError, AttributeError, OSError, RecursionError):
        return None
    if not suits:
        return None
    efitype: EfiType = "4m" if size > 2 * MIB else "2m"
    return Firmware(
        code, variables, efitype, "secure-boot" in features, "enrolled-keys" in features, "requires-smm" in features
    )


def choose(firmware: Sequence[Firmware], *, efitype: EfiType, enrolled_keys: bool, smm: bool = True) -> Firmware | None:
    """The firmware for a VM's `efidisk0`, or None when the host has none that fits.

    `smm` says that the machine has system management mode (q35), without which there is no Secure Boot. With
    `enrolled_keys` Secure Boot is on from the start; without, firmware that can be taught keys is preferred. Neither
    means anything to images of 2 MiB.
    """
    wanted = enrolled_keys and efitype == "4m"
    fitting = [known for known in firmware if known.efitype == efitype and known.enrolled_keys == wanted]
    fitting = [known for known in fitting if smm or not known.smm]
    return max(fitting, key=lambda known: known.secure_boot, default=None)
