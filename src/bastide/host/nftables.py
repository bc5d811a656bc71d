"""The kernel's packet filter, through nft(8): rule sets go in on standard input and are applied as one transaction."""

import json
from dataclasses import dataclass
from typing import Any

from bastide.host.run import run


async def apply(ruleset: str) -> None:
    """Apply a rule set, all of it or nothing. Raises RunError with nft's message, NotSupported without nft."""
    await run(["nft", "-f", "-"], input=ruleset.encode(), deadline=20)


async def delete_table(family: str, name: str) -> None:
    """Remove a table with everything in it; one that is not there is fine."""
    # `delete` of a missing table fails, so the same transaction declares it first (nft(8), "TABLES").
    await apply(f"table {family} {name} {{\n}}\ndelete table {family} {name}\n")


@dataclass(frozen=True, slots=True)
class BaseChain:
    """A chain on a hook of the kernel's. One whose policy is drop decides alone: a packet that another table accepts
    is still dropped there (nft(8), "VERDICTS")."""

    family: str
    table: str
    name: str
    hook: str
    policy: str


async def base_chains() -> list[BaseChain]:
    """Every base chain of the kernel's rule set. Raises RunError, NotSupported without nft."""
    out = await run(["nft", "-j", "list", "chains"], deadline=20)
    objects: list[dict[str, Any]] = json.loads(out.stdout or b"{}").get("nftables", [])
    return [
        BaseChain(chain["family"], chain["table"], chain["name"], chain["hook"], chain.get("policy", "accept"))
        for chain in (each["chain"] for each in objects if "chain" in each)
        if "hook" in chain
    ]
