"""A catalog entry: a well-known service, what it needs, how large it is, and how Debian installs it.

One YAML file an entry, in `architect/catalog/` and in folders that a user adds. `docs/catalog.md` says how to write
one.
"""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from bastide.model.record import Multiline, Record
from bastide.model.service import Service, Size, Word

Text = Annotated[str, Field(min_length=1, max_length=400)]
Script = Annotated[str, Multiline(), Field(min_length=1, max_length=16_384)]
EnvironmentName = Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]{0,40}$")]
Category = Literal[
    "web", "proxy", "dns", "network", "vpn", "database", "broker", "cache", "mail", "files", "media", "photos",
    "documents", "monitoring", "logs", "home-automation", "development", "ci", "containers", "security", "identity",
    "chat", "backup", "storage", "games", "firewall", "desktop", "productivity", "ai", "system",
]  # fmt: skip
AbsolutePath = Annotated[str, Field(pattern=r"^/[^\s]{0,200}$")]


class Extent(Record):
    """How large a guest for a service is."""

    cores: Annotated[int, Field(ge=1, le=512)]
    memory: Size
    disk: Size


class Sizes(Record):
    """The least that a service runs with, and what it usually gets; the disk includes the system."""

    minimum: Extent
    usual: Extent


class Port(Record):
    """A port that the service listens on."""

    port: Annotated[int, Field(ge=1, le=65535)]
    protocol: Literal["tcp", "udp"] = "tcp"
    what: Annotated[str | None, Field(max_length=80)] = None


class RecipeFile(Record):
    """A file that is written in the guest, after the packages are installed unless `before` is set."""

    path: AbsolutePath
    text: Script
    mode: Annotated[str, Field(pattern=r"^0[0-7]{3}$")] = "0644"
    before: bool = False


class Probe(Record):
    """How the host sees that the service works.

    `http`, `https` (any certificate): a GET of `path` answers `status`, and the body has `contains`. `tcp`: after
    connecting, `send` is sent and the answer has `contains`. `dns`: a query over UDP for `name` gets an answer. `ntp`:
    a time server's answer. `command`: an argument list in the guest ends with 0 and its output has `contains`, for what
    no client on the host speaks.
    """

    type: Literal["http", "https", "tcp", "dns", "ntp", "command"]
    port: Annotated[int | None, Field(ge=1, le=65535)] = None
    path: Annotated[str, Field(pattern=r"^/\S*$", max_length=200)] = "/"
    status: tuple[Annotated[int, Field(ge=100, le=599)], ...] = (200,)
    send: Annotated[str | None, Multiline(), Field(max_length=400)] = None
    contains: Annotated[str | None, Field(max_length=200)] = None
    name: Annotated[str, Field(max_length=253)] = "localhost"
    command: tuple[Text, ...] = ()
    seconds: Annotated[int, Field(ge=1, le=900)] = 60

    @model_validator(mode="after")
    def _complete(self) -> "Probe":
        if self.type == "command" and not self.command:
            raise ValueError("command: a probe of type 'command' needs an argument list")
        if self.type != "command" and self.port is None:
            raise ValueError(f"port: a probe of type '{self.type}' needs a port")
        return self


class Recipe(Record):
    """How a guest with a Debian system becomes the service; the same for containers and VMs.

    `packages` come from the guest's own package sources, without what is merely recommended unless `recommends` is set.
    `debconf` answers their questions (debconf-set-selections(1)). `secrets` are made anew for every guest: 24 random
    characters each, in the environment of `run`, kept in the guest's /root/NAME.secrets and nowhere else. `run` are
    shell scripts, as root, after packages and files (`sh -eu`); they must stand being run again.
    """

    os: tuple[Word, ...] = ("debian-12", "debian-13")
    packages: tuple[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.+-]+$")], ...] = ()
    recommends: bool = False
    debconf: tuple[Text, ...] = ()
    secrets: tuple[EnvironmentName, ...] = ()
    files: tuple[RecipeFile, ...] = ()
    run: Annotated[tuple[Script, ...], Multiline()] = ()
    services: tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9@._:-]+$")], ...] = ()
    probe: Probe


class CatalogEntry(Record):
    """A service that many run: `bastide advise NAME`, `bastide launch NAME`.

    `needs` has the keys of a service and holds for its usual use. `state` is what it keeps: nothing, files, a database.
    `source` says where its needs and sizes are from, `upstream` how to install it where there is no recipe. `notes`
    are for the reader of an advice.
    """

    name: Word
    title: Annotated[str, Field(min_length=1, max_length=80)]
    summary: Annotated[str, Field(min_length=1, max_length=200)]
    category: Category
    aliases: tuple[Word, ...] = ()
    needs: Service = Service()
    ports: tuple[Port, ...] = ()
    state: Literal["none", "files", "database"] = "files"
    size: Sizes
    upstream: Annotated[str, Field(max_length=200)] = ""
    source: Annotated[str, Field(min_length=1, max_length=300)]
    notes: tuple[Text, ...] = ()
    recipe: Recipe | None = None

    @model_validator(mode="after")
    def _plain_needs(self) -> "CatalogEntry":
        for key in ("name", "service", "cores", "memory", "disk", "kind"):
            if getattr(self.needs, key) is not None:
                raise ValueError(f"needs: '{key}' does not belong here")
        return self
