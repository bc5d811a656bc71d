"""`/version`: what clients test for features; the own version lies beside Proxmox's."""

from typing import Any

from bastide.api.routing import Branch, Call, NoParameters
from bastide.api.shapes_nodes import Version

PVE_VERSION = "9.1.1"
PVE_RELEASE = "9.1"

branch = Branch("/version")


def manager_version(call: Call) -> str:
    """The version as `pveversion` of a node's status shows it."""
    return f"pve-manager/{PVE_VERSION}/bastide-{call.services.version}"


def describe(call: Call) -> dict[str, Any]:
    """The version as clients parse it: `version` by PEP 440, `release` a number in text."""
    return {"version": PVE_VERSION, "release": PVE_RELEASE, "repoid": "bastide", "bastide": call.services.version}


@branch.get("", NoParameters, user="all", answer=Version)
async def read_version(call: Call, _p: NoParameters) -> dict[str, Any]:
    """API version details, including some parts of the global datacenter config."""
    return describe(call)
