"""The kernel's packet filter, through nft(8): rule sets go in on standard input and are applied as one transaction."""

import json
from typing import Any

from bastide.base.errors import RunError
from bastide.host.run import run


async def apply(ruleset: str) -> None:
    """Apply a rule set, all of it or nothing. Raises RunError with nft's message, NotSupported without nft."""
    await run(["nft", "-f", "-"], input=ruleset.encode(), deadline=20)


async def delete_table(family: str, name: str) -> None:
    """Remove a table with everything in it; one that is not there is fine."""
    # `delete` of a missing table fails, so the same transaction declares it first (nft(8), "TABLES").
    await apply(f"table {family} {name} {{\n}}\ndelete table {family} {name}\n")


async def has_table(family: str, name: str) -> bool:
    """Whether the kernel holds the table."""
    return (await run(["nft", "list", "table", family, name], check=False, deadline=20)).code == 0


async def list_objects(kind: str) -> list[dict[str, Any]]:
    """Objects of the kernel's rule set: `kind` is `tables`, `chains` or `ruleset`. Empty when nft cannot say."""
    try:
        out = await run(["nft", "-j", "list", kind], deadline=20)
    except RunError:
        return []
    objects: list[dict[str, Any]] = json.loads(out.stdout or b"{}").get("nftables", [])
    return objects


async def dropping_chains(hook: str) -> list[str]:
    """Base chains on a hook whose policy is drop, as `family table chain`.

    Each of them decides alone: a packet that another table accepts is still dropped there (nft(8), "VERDICTS").
    """
    chains = [each["chain"] for each in await list_objects("chains") if "chain" in each]
    return [
        f"{chain['family']} {chain['table']} {chain['name']}"
        for chain in chains
        if chain.get("hook") == hook and chain.get("policy") == "drop"
    ]
