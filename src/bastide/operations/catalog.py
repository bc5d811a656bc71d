"""Which images this host can build for containers and for VMs, and how their files are named."""

import re
from dataclasses import dataclass
from typing import Literal

from bastide.base.errors import NotSupported
from bastide.host import apt
from bastide.host.mmdebstrap import Recipe
from bastide.model.guest import Kind
from bastide.model.record import Scalar
from bastide.operations import recipes

Variant = Literal["standard", "cloud"]

_NAME = re.compile(r"(?:local:|build:)?([a-z]+)(?:[-/ ]([0-9.]+|[a-z]+))?(?:-(standard|cloud))?(?:_.*)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Buildable:
    """An image that this host may be able to build, such as Debian 12 for a VM.

    The variant `cloud` has cloud-init in it; a VM's image is always of that variant.
    """

    distribution: str
    version: str
    variant: Variant = "standard"
    kind: Kind = "lxc"

    @property
    def codename(self) -> str:
        """The release's code name: `bookworm`."""
        return apt.CODENAMES[self.distribution][self.version]

    @property
    def package(self) -> str:
        """The name its files begin with: `debian-12-standard`."""
        return f"{self.distribution}-{self.version}-{self.variant}"

    @property
    def alias(self) -> str:
        """The name that means it: `debian-12`, or `debian-12-cloud` for a template with cloud-init."""
        plain = f"{self.distribution}-{self.version}"
        return self.package if self.kind == "lxc" and self.variant == "cloud" else plain

    @property
    def content(self) -> Literal["vztmpl", "import"]:
        """The content type it is kept as."""
        return "import" if self.kind == "qemu" else "vztmpl"

    def filename(self, version: str, architecture: str) -> str:
        """Its file: `debian-12-standard_20260101_amd64.tar.zst`."""
        return f"{self.package}_{version}_{architecture}.{'qcow2' if self.kind == 'qemu' else 'tar.zst'}"

    def recipe(self, sources: list[apt.AptSource], architecture: str) -> Recipe:
        """What mmdebstrap has to make. Raises NotSupported for a VM of a processor that is not amd64."""
        if self.kind == "lxc":
            return recipes.container_recipe(self.codename, sources, architecture, cloud=self.variant == "cloud")
        if architecture != "amd64":
            raise NotSupported(f"images for VMs are built for amd64 only, and this host is {architecture}")
        return recipes.vm_recipe(self.distribution, self.codename, sources, architecture)

    def entry(self, architecture: str) -> dict[str, Scalar]:
        """Its line in the list of available templates, in Proxmox VE's keys."""
        title = self.distribution.capitalize()
        return {
            "package": self.package,
            "version": self.version,
            "os": f"{self.distribution}-{self.version}",
            "section": "system",
            "type": self.kind,
            "architecture": architecture,
            "template": self.filename(self.version, architecture),
            "headline": f"{title} {self.version} ({self.codename}), built on this host",
            "description": f"A small {title} {self.version} system, built from this host's own package sources.",
            "source": "host",
            "location": "host",
        }


def buildables(kind: Kind = "lxc") -> list[Buildable]:
    """Everything that the catalog knows for a kind of guest."""
    variants: tuple[Variant, ...] = ("cloud",) if kind == "qemu" else ("standard", "cloud")
    return [
        Buildable(name, version, variant, kind)
        for variant in variants
        for name, versions in apt.CODENAMES.items()
        for version in versions
    ]


def find_buildable(name: str, kind: Kind = "lxc") -> Buildable | None:
    """What a name means: `debian-12`, `debian/12`, `debian/bookworm`, `bookworm`, with `-cloud`, or a file's name."""
    match = _NAME.fullmatch(name.strip().lower())
    if match is None:
        return None
    variant = "cloud" if kind == "qemu" else match[3] or "standard"
    for one in buildables(kind):
        named = (match[1] == one.distribution and match[2] in (one.version, one.codename)) or (
            match[1] == one.codename and match[2] is None
        )
        if named and one.variant == variant:
            return one
    return None
