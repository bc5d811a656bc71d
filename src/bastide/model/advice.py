"""What the architect answers, and what it has to know of the host."""

from typing import Annotated, Any, Literal

from pydantic import Field

from bastide.model.record import Record, Scalar
from bastide.model.service import Choice

Strength = Literal["hard", "strong", "weak"]
Confidence = Literal["certain", "high", "moderate", "low"]


class HostFacts(Record):
    """What a verdict, its settings and its costs depend on: memory and disk in bytes.

    `kvm` is whether VMs run on the processor's own virtualization, `nested` whether they can do so again inside,
    `iommu` whether PCI devices can be handed over, `render` the host's DRI render nodes (`/dev/dri/renderD128`).
    """

    node: str = "localhost"
    cores: int = 4
    memory: int = 16 * 1024**3
    kvm: bool = True
    nested: bool = False
    iommu: bool = True
    render: tuple[str, ...] = ()
    uefi: bool = True
    secure_boot: bool = True
    tpm: bool = True
    storage: str = "local"
    bridge: str = "vmbr0"
    images: dict[str, str] = Field(default_factory=dict)
    """Volume ids of images: `ct/debian-12` and `vm/debian-12` to `local:vztmpl/...`, `iso/opnsense` to a CD."""


class Fired(Record):
    """A rule that holds for the service. `because` is what it saw, and where that is from (asked, catalog, assumed)."""

    id: str
    strength: Strength
    kind: Choice
    statement: str
    because: str


class Question(Record):
    """Something unknown that could change the verdict: the key to set, its values, and what was assumed meanwhile."""

    key: str
    question: str
    choices: tuple[str, ...]
    assumed: str


class Sizing(Record):
    """What the guest gets; memory and disk in bytes. `because` says per key where the figure is from."""

    cores: int
    memory: int
    disk: int
    instances: int = 1
    because: dict[str, str]


class Cost(Record):
    """What one guest of a kind takes on a host: bytes and seconds; None where nothing is known.

    `memory` is what the host pays for an idle guest beyond the service, `density` how many idle guests fit into 1 GB.
    `source` is `measured` (on this host, at `taken`) or `published` (elsewhere, at `taken`, see `note`).
    `emulated` marks figures of VMs without KVM.
    """

    kind: Choice
    memory: int | None = None
    disk: int | None = None
    deploy: float | None = None
    start: float | None = None
    density: float | None = None
    cpu: Annotated[float | None, Field(description="processor speed as a share of the host's own")] = None
    source: Literal["measured", "published"]
    taken: str
    note: str = ""
    emulated: bool = False


class Request(Record):
    """The call of the API that makes the guest. `{vmid}` in the parameters is GET /cluster/nextid."""

    method: Literal["POST"] = "POST"
    path: str
    parameters: dict[str, Scalar]


class Advice(Record):
    """The architect's answer for one service.

    `rules` fired for the kind, `against` for the other. `unless` says what would change the verdict, `conflicts` which
    wish lost against which rule, `assumed` what was taken for granted, `questions` what is worth asking, `warnings`
    what does not fit this host. `settings` are options of the guest in the API's own form, with a reason each in
    `reasons`. `cost` is of this kind, `cost_other` of the other, for comparison.
    """

    name: str
    title: str
    service: str | None
    os: str
    kind: Choice
    confidence: Confidence
    summary: str
    rules: tuple[Fired, ...]
    against: tuple[Fired, ...]
    unless: tuple[str, ...]
    conflicts: tuple[str, ...]
    assumed: tuple[str, ...]
    questions: tuple[Question, ...]
    warnings: tuple[str, ...]
    settings: dict[str, Scalar]
    reasons: dict[str, str]
    sizing: Sizing
    cost: Cost
    cost_other: Cost | None
    command: str
    request: Request
    installs: bool = Field(description="whether the catalog has a recipe that makes the service run")
    notes: tuple[str, ...] = ()


AdviceAnswer = dict[str, Any]
"""An `Advice` as JSON."""
