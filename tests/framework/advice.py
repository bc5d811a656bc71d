"""An architect whose mind is known: advice for plans, without rules."""

from typing import Any

from bastide.base import units
from bastide.model.advice import Advice, Cost, Fired, Request, Sizing
from bastide.model.service import Choice, Service


def advice_for(service: Service, kind: Choice | None = None, **parameters: Any) -> Advice:
    """What is asked for, a container of Debian 12 where nothing is; `parameters` join those of the call."""
    chosen = kind or service.kind or "ct"
    system = service.os or "debian-12"
    defaults = {
        "ct": {"unprivileged": 1, "features": "nesting=1"},
        "vm": {"ostype": "l26", "rng0": "source=/dev/urandom"},
    }
    rule = Fired(id="ct-default", strength="weak", kind=chosen, statement="a Linux service is a container", because="")
    return Advice(
        name=service.name or "guest", title="Debian", service=service.service, os=system, kind=chosen,
        confidence="moderate", summary=f"{service.name}: a {chosen}", rules=(rule,), against=(), unless=(),
        conflicts=(), assumed=(), questions=(), warnings=(), settings={}, reasons={},
        sizing=Sizing(
            cores=service.cores or 1, memory=units.parse_size(service.memory or "512M"),
            disk=units.parse_size(service.disk or "4G"), because={},
        ),
        cost=Cost(kind=chosen, source="published", taken="2026-01-01"), cost_other=None, command="bastide launch ...",
        request=Request(path="/nodes/pve/lxc", parameters={"vmid": "{vmid}", **defaults[chosen], **parameters}),
        installs=False,
    )  # fmt: skip
