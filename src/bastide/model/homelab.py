"""A plan: the services that a host shall run, as `homelab.yaml` lists them, and what it comes to on a host.

Read with `model.documents`, so that errors name their line. The JSON schema in docs/homelab.schema.json is made from
these records.
"""

import posixpath
import re
from graphlib import CycleError, TopologicalSorter
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from bastide.model.audit import Bulk, Secret
from bastide.model.record import Multiline, Record, Scalar
from bastide.model.service import Choice, Service, Size, Word
from bastide.model.types import DnsName, Ipv4, Ipv4Setting, StorageId, Tags, is_dns_name

SERVICES_LIMIT = 1000
COPIES_LIMIT = 100

_TEXT_LIMIT = 128 * 1024
_LABEL_LIMIT = 63
_BRIDGE = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,14}", re.ASCII)
_MOUNT_PATH = re.compile(r"/[A-Za-z0-9_./-]{1,200}", re.ASCII)
_SOURCE = re.compile(r"/[^\s,]{1,200}")
_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+:/~-]*", re.ASCII)
_KEY_TYPE = re.compile(r"(ssh-|ecdsa-|sk-)[a-z0-9@.-]+", re.ASCII)


def _bridge(text: str) -> str:
    if _BRIDGE.fullmatch(text) is None:
        raise ValueError(f"'{text[:40]}' is not the name of a bridge: at most 15 letters, digits, '_', '.', '-'")
    return text


def _inner_path(text: str) -> str:
    if _MOUNT_PATH.fullmatch(text) is None or ".." in text.split("/") or posixpath.normpath(text) in ("/", "//"):
        raise ValueError(f"'{text[:80]}' is not a folder to mount at: an absolute path such as /srv/data, without '..'")
    return "/" + posixpath.normpath(text).strip("/")


def _host_path(text: str) -> str:
    if _SOURCE.fullmatch(text) is None or ".." in text.split("/"):
        raise ValueError(f"'{text[:80]}' is not a folder of the host: an absolute path without spaces, ',' and '..'")
    return text


def _image(text: str) -> str:
    if _IMAGE.fullmatch(text) is None:
        raise ValueError(f"'{text[:80]}' is not an image: a name (debian-12), a volume (local:import/x.qcow2) or a URL")
    return text


def _key(text: str) -> str:
    words = text.split()
    if len(words) < 2 or _KEY_TYPE.fullmatch(words[0]) is None:
        raise ValueError(f"'{text[:40]}' is not a public SSH key: copy the line of a .pub file")
    return text


class PlannedNetwork(Record):
    """A guest's first interface. Default: DHCP on the host's NAT bridge."""

    bridge: Annotated[str, AfterValidator(_bridge)] | None = None
    ip: Ipv4Setting = "dhcp"
    gateway: Ipv4 | None = None
    tag: Annotated[int | None, Field(ge=1, le=4094)] = None

    @model_validator(mode="after")
    def _gateway_with_address(self) -> Self:
        if self.gateway is not None and "/" not in self.ip:
            raise ValueError("gateway: needs an address of the guest's own: ip: 10.0.0.5/24")
        return self


class PlannedMount(Record):
    """More space at `path`: a fresh volume of `size`, or the host's folder `source` (containers only, root@pam)."""

    path: Annotated[str, AfterValidator(_inner_path)]
    size: Size | None = None
    source: Annotated[str, AfterValidator(_host_path)] | None = None
    read_only: bool = False

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.size is None) == (self.source is None):
            raise ValueError("give either size (a new volume) or source (a folder of the host)")
        return self


class PlannedService(Service):
    """A service in a plan: what it is and needs (the keys of a service), and how it stands on the host.

    `image` overrules the image that its `os` means. `after` names services that must answer first. `user_data` is
    cloud-init's. `instances` above 1 makes guests `name-1`, `name-2` ...
    """

    name: DnsName
    image: Annotated[str, Field(max_length=200), AfterValidator(_image)] | None = None
    storage: StorageId | None = None
    network: PlannedNetwork = PlannedNetwork()
    mounts: Annotated[tuple[PlannedMount, ...], Field(max_length=16)] = ()
    user_data: Annotated[str | None, Multiline(), Field(max_length=_TEXT_LIMIT), Secret()] = None
    ssh_keys: Annotated[tuple[Annotated[str, Field(max_length=2000), AfterValidator(_key)], ...], Bulk()] = ()
    after: tuple[DnsName, ...] = ()
    tags: Tags | None = None
    onboot: bool | None = None

    @property
    def guests(self) -> tuple[str, ...]:
        """The names of its guests."""
        count = self.instances or 1
        return (self.name,) if count == 1 else tuple(f"{self.name}-{number}" for number in range(1, count + 1))

    @model_validator(mode="after")
    def _separate_mounts(self) -> Self:
        paths = [mount.path for mount in self.mounts]
        if twice := sorted({path for path in paths if paths.count(path) > 1}):
            raise ValueError(f"mounts: two are at '{twice[0]}'")
        return self


class Homelab(Record):
    """A plan as a whole. Its name marks the guests that belong to it."""

    name: Annotated[Word, Field(max_length=40)]
    version: Literal[1] = 1
    services: tuple[PlannedService, ...]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not 1 <= len(self.services) <= SERVICES_LIMIT:
            raise ValueError(f"services: list between 1 and {SERVICES_LIMIT} services")
        names: dict[str, str] = {}
        for index, one in enumerate(self.services):
            for name in one.guests:
                if name in names:
                    other = f" (service '{names[name]}' has a guest of that name)" if names[name] != name else ""
                    raise ValueError(f"services[{index}].name: the name '{name}' stands twice{other}")
                names[name] = one.name
        known = {one.name for one in self.services}
        for index, one in enumerate(self.services):
            if absent := [other for other in one.after if other not in known]:
                raise ValueError(f"services[{index}].after: '{absent[0]}' is no service of this plan")
        self._refuse_circles()
        return self

    def _refuse_circles(self) -> None:
        try:
            TopologicalSorter({one.name: one.after for one in self.services}).prepare()
        except CycleError as error:
            circle = list(reversed(error.args[1]))
            first = next(index for index, one in enumerate(self.services) if one.name in circle)
            turned = circle[circle.index(self.services[first].name) :] + circle[1:]
            shown = " after ".join(turned[: len(circle)])
            raise ValueError(f"services[{first}].after: a circle: {shown}") from None

    def numbered(self, number: int) -> Self:
        """The same plan as a separate environment: `NAME-2`, whose services are `NAME-2-web` ... Raises ValueError.

        Services keep their order, so that line numbers of the text hold.
        """
        name = f"{self.name}-{number}"
        services = []
        for one in self.services:
            values = {"name": f"{name}-{one.name}", "after": tuple(f"{name}-{other}" for other in one.after)}
            copy = one.model_copy(update=values)
            if any(len(guest.partition(".")[0]) > _LABEL_LIMIT for guest in copy.guests):
                raise ValueError(f"'{copy.name}' is longer than a host name may be ({_LABEL_LIMIT}): use shorter names")
            if not is_dns_name(copy.name):
                raise ValueError(f"'{copy.name}' is no host name: name the plan with letters, digits and hyphens")
            services.append(copy)
        return self.model_copy(update={"name": name, "services": tuple(services)})


class Placed(Record):
    """What a plan's record says of one guest.

    `state`: `planned` (the vmid is chosen), `made` (the guest exists), `ready` (it answered). `origin` is what it was
    made from and cannot be changed without making it anew, `wanted` what was last asked for of the rest, `seen` other
    options as they were then.
    """

    service: DnsName
    vmid: int
    kind: Choice
    state: Literal["planned", "made", "ready"] = "planned"
    origin: dict[str, str] = Field(default_factory=dict)
    wanted: dict[str, Scalar] = Field(default_factory=dict)
    seen: dict[str, Scalar] = Field(default_factory=dict)


class PlanRecord(Record):
    """What the store holds under `plan/<name>`: the guests by name, and the task that works on them (a UPID or '')."""

    name: Word
    task: str = ""
    guests: dict[str, Placed] = Field(default_factory=dict)


class Difference(Record):
    """One setting of a guest that is not as the plan wants it. `restart`: it takes effect at the next start."""

    key: str
    present: Scalar | None
    wanted: Scalar | None
    restart: bool = False


Action = Literal["create", "change", "replace", "keep", "remove", "drift"]
"""What is to be done with a guest.

`drift` is what somebody else did: the guest was changed by hand, does not run, or is gone; applying mends it.
"""

Work = Literal["remove", "create", "change", "grow", "finish"]
"""What applying does, in this order. `finish`: start, wait, mount, install, probe."""


class Step(Record):
    """One guest of a plan, and what applying the plan means for it."""

    plan: str
    guest: str
    service: str
    action: Action
    kind: Choice
    vmid: int | None = None
    work: tuple[Work, ...] = ()
    differences: tuple[Difference, ...] = ()
    reason: str = ""


class Decision(Record):
    """What the architect decided for a service of a plan; memory and disk in bytes. `reason` is the decisive rule."""

    plan: str
    service: str
    line: int | None
    guests: tuple[str, ...]
    kind: Choice
    os: str
    title: str
    confidence: str
    reason: str
    cores: int
    memory: int
    disk: int
    settings: dict[str, Scalar]
    installs: bool
    warnings: tuple[str, ...] = ()


class PlanOutlook(Record):
    """A plan on a host: what was decided for its services, and what applying it would do."""

    name: str
    decisions: tuple[Decision, ...]
    steps: tuple[Step, ...]


class KnownGuest(Record):
    """A guest of a plan that was applied; `status` is running, paused, stopped or gone."""

    name: str
    service: str
    vmid: int
    kind: Choice
    state: Literal["planned", "made", "ready"]
    status: str


class KnownPlan(Record):
    """A plan that was applied; `task` is the UPID of the one that works on it now, or empty."""

    name: str
    task: str
    guests: tuple[KnownGuest, ...]
