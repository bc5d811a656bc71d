"""What a container's backup says of it, and what becomes of that here.

A backup's configuration is data of a stranger. The caller's options go before it, its volumes are made anew and keep
nothing but their sizes and options, and what reaches the host is for root@pam alone.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from bastide.backup.config_text import ParsedConfig
from bastide.base import propstring, units
from bastide.base.errors import InvalidParameter, PermissionDenied
from bastide.model.container import ContainerOptions, Features, MountPoint, RootFs
from bastide.model.record import Scalar
from bastide.operations.interfaces import random_hwaddr

_VOLUME = re.compile(r"rootfs|mp\d+", re.ASCII)
_ROOT_ONLY = re.compile(r"hookscript|dev\d+", re.ASCII)
_LARGEST = 10**7
_NANO = 10**9


@dataclass(frozen=True, slots=True)
class Merged:
    """The options of a restored container, its volumes still to be made (`local:8`), and what its user has to know."""

    options: ContainerOptions
    template: bool
    warnings: list[str] = field(default_factory=list)


def merge(
    saved: ParsedConfig,
    given: ContainerOptions,
    *,
    storage: str,
    unique: bool = False,
    restricted: bool = False,
    before: Mapping[str, Scalar] | None = None,
) -> Merged:
    """Put a backup's options and the caller's together; the volumes go to `storage` unless the caller gives places.

    With `unique` the interfaces get new hardware addresses. `restricted` leaves out what root@pam alone may configure,
    unless `before`, the guest that is replaced, has it already. Raises InvalidParameter, and PermissionDenied for mount
    points that are folders of the host.
    """
    warnings = saved.warnings
    if saved.raw:
        names = list(dict.fromkeys(key[:60] for key, _ in saved.raw))[:10]
        warnings.append(f"ignoring lines for LXC itself, which cannot be set here: {', '.join(names)}")
    asked = {key: value for key, value in given.to_text().items() if not key.startswith(("unused", "lock"))}
    taken: dict[str, Scalar] = {key: value for key, value in saved.options.items() if key != "template"}
    _check_asked(asked)
    volumes = {key: str(taken.pop(key)) for key in list(taken) if _VOLUME.fullmatch(key)}
    if "rootfs" not in asked:
        taken |= _new_volumes(volumes, storage, warnings, restricted=restricted)
    elif left := sorted(volumes.keys() - asked.keys()):
        warnings.append(f"what was in {', '.join(left)} goes into the volumes that were asked for")
    if unique:
        taken |= {key: _readdressed(value) for key, value in taken.items() if re.fullmatch(r"net\d+", key)}
    if restricted:
        taken = _restricted(taken, before or {}, warnings)
    options = ContainerOptions.parse({**taken, **asked})
    if restricted and not options.unprivileged and "features" in taken and saved.options.get("unprivileged") == "1":
        warnings.append("ignoring 'features' of the backup's configuration: the container was unprivileged")
        options = ContainerOptions.parse({**{key: taken[key] for key in taken if key != "features"}, **asked})
    return Merged(options, saved.options.get("template") == "1", warnings)


def _check_asked(asked: Mapping[str, Scalar]) -> None:
    texts = {key: str(value) for key, value in asked.items() if _VOLUME.fullmatch(key)}
    mounts = {key: propstring.parse(text, "volume")["volume"] for key, text in texts.items()}
    if mounts and "rootfs" not in mounts:
        raise InvalidParameter({"rootfs": "mount points are given: give the root file system (STORAGE:GiB), too"})
    for key, volume in mounts.items():
        if not volume.startswith("/") and re.fullmatch(r"[^:]+:\d+(\.\d+)?", volume) is None:
            raise InvalidParameter({key: f"'{volume[:80]}' is no new volume: a restore makes all anew (STORAGE:GiB)"})


def _new_volumes(
    volumes: Mapping[str, str], storage: str, warnings: list[str], *, restricted: bool
) -> dict[str, Scalar]:
    """Requests for volumes like the backup's; folders of the host stay what they are."""
    if "rootfs" not in volumes:
        raise InvalidParameter({"rootfs": "the backup does not tell its size: give one (STORAGE:GiB)"})
    made: dict[str, Scalar] = {}
    for key, text in volumes.items():
        parts = propstring.parse(text, "volume")
        kind: type[RootFs | MountPoint] = RootFs if key == "rootfs" else MountPoint
        mount = kind.parse(parts)
        if mount.volume.startswith("/"):
            if key == "rootfs":
                raise InvalidParameter({key: "the backup's root is a folder of its host: give a volume (STORAGE:GiB)"})
            if restricted:
                raise PermissionDenied(
                    f"Permission check failed ({key}: restoring mount point type bind is only allowed for root@pam; "
                    "give rootfs=STORAGE:GiB to do without)"
                )
            warnings.append(f"{key} shows the folder '{mount.volume}' of this host")
            made[key] = text
        else:
            request = f"{storage}:{_gib(key, mount.size)}"
            made[key] = str(mount.model_copy(update={"volume": request, "size": None}))
    return made


def _gib(key: str, size: str | None) -> str:
    """A size as `STORAGE:GiB` has it, never smaller than it was; a volume without one has no limit."""
    nanos = -(Fraction(units.parse_size(size) if size else 0, units.GIB) * _NANO // -1)
    whole, rest = divmod(int(nanos), _NANO)
    if whole >= _LARGEST:
        raise InvalidParameter({key: f"the backup says that it has {size}, which is more than any volume: give a size"})
    return f"{whole}.{rest:09}" if rest else str(whole)


def _readdressed(value: Scalar) -> str:
    return propstring.render({**propstring.parse(str(value)), "hwaddr": random_hwaddr()})


def _restricted(taken: Mapping[str, Scalar], before: Mapping[str, Scalar], warnings: list[str]) -> dict[str, Scalar]:
    """What others than root@pam may restore."""
    kept: dict[str, Scalar] = {}
    for key, value in taken.items():
        same = key in before and _plain(key, before[key]) == _plain(key, value)
        if key == "features" and not same:
            nesting = Features.parse(propstring.parse(str(value))).nesting
            if str(value) not in ("nesting=0", "nesting=1"):
                warnings.append("ignoring 'features' of the backup's configuration but nesting: root@pam may set them")
            kept |= {"features": f"nesting={int(nesting)}"} if nesting is not None else {}
        elif _ROOT_ONLY.fullmatch(key) and not same:
            warnings.append(f"ignoring '{key}' of the backup's configuration: only root@pam may set it")
        else:
            kept[key] = value
    return kept


def _plain(key: str, value: Scalar) -> Mapping[str, Scalar]:
    """An option in the one form that it is stored in."""
    return ContainerOptions.parse({key: value}).to_text()
