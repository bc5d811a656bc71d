"""A plan: the services that a host shall run, as `homelab.yaml` lists them.

Read with `model.documents`, so that errors name their line. The JSON schema in docs/homelab.schema.json is made from
these records.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from bastide.model.record import Multiline, Record
from bastide.model.service import Service, Size, Word
from bastide.model.types import DnsName, StorageId, Tags

_TEXT_LIMIT = 128 * 1024


class PlannedNetwork(Record):
    """A guest's first interface. Default: DHCP on the host's NAT bridge."""

    bridge: Annotated[str | None, Field(pattern=r"^[A-Za-z][A-Za-z0-9_.-]{0,14}$")] = None
    ip: Annotated[str, Field(pattern=r"^(dhcp|manual|\d{1,3}(\.\d{1,3}){3}/\d{1,2})$")] = "dhcp"
    gateway: Annotated[str | None, Field(pattern=r"^\d{1,3}(\.\d{1,3}){3}$")] = None
    tag: Annotated[int | None, Field(ge=1, le=4094)] = None


class PlannedMount(Record):
    """More space at `path`: a fresh volume of `size`, or the host's folder `source` (containers only, root@pam)."""

    path: Annotated[str, Field(pattern=r"^/[A-Za-z0-9_./-]{1,200}$")]
    size: Size | None = None
    source: Annotated[str | None, Field(pattern=r"^/[^\s,]{1,200}$")] = None
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
    image: Annotated[str | None, Field(max_length=200)] = None
    storage: StorageId | None = None
    network: PlannedNetwork = PlannedNetwork()
    mounts: tuple[PlannedMount, ...] = Field(default=(), max_length=16)
    user_data: Annotated[str | None, Multiline(), Field(max_length=_TEXT_LIMIT)] = None
    ssh_keys: tuple[Annotated[str, Field(max_length=2000)], ...] = ()
    after: tuple[DnsName, ...] = ()
    tags: Tags | None = None
    onboot: bool = False


class Homelab(Record):
    """A plan as a whole. Its name marks the guests that belong to it."""

    name: Annotated[Word, Field(max_length=40)]
    version: Literal[1] = 1
    services: tuple[PlannedService, ...]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not 1 <= len(self.services) <= 1000:
            raise ValueError("services: list between 1 and 1000 services")
        names = [one.name for one in self.services]
        double = sorted({name for name in names if names.count(name) > 1})
        if double:
            raise ValueError(f"services: the name '{double[0]}' stands twice")
        for one in self.services:
            for other in one.after:
                if other not in names:
                    raise ValueError(f"services: '{one.name}' is to come after '{other}', which is not in this plan")
        return self
