"""Copying a file tree from one process to another, as a tar stream."""

from collections.abc import Callable, Sequence
from pathlib import Path

from bastide.host.pipeline import Stage, run_pipeline

_WHOLE = ("--numeric-owner", "--acls", "--xattrs", "--xattrs-include=*")


async def copy_tree(
    pack: Sequence[str],
    unpack: Sequence[str],
    *,
    limit: float | None = None,
    progress: Callable[[int], None] | None = None,
) -> int:
    """Let `pack` write a tar stream into the standard input of `unpack`; returns how many bytes it had.

    `limit` is in bytes a second; `progress` gets the bytes so far, from another thread. Raises NoSpace, HostFailure.
    Cancelling kills both processes.
    """
    stages = [Stage(pack, "read"), Stage(unpack, "written")]
    return (await run_pipeline(stages, limit=limit, progress=progress)).total


async def copy_folder(source: Path, target: Path, limit: float) -> None:
    """Copy what a folder of ours holds into an existing one, with owners, modes, links and extended attributes.

    Nobody writes to the source. `limit` is in bytes a second. Raises NoSpace, HostFailure.
    """
    pack = ["tar", "--create", "--file=-", f"--directory={source}", "--sparse", *_WHOLE, "--warning=no-file-ignored"]
    unpack = ["tar", "--extract", "--file=-", f"--directory={target}", "--same-owner", "--preserve-permissions"]
    await copy_tree([*pack, "--", "."], [*unpack, *_WHOLE, "--warning=no-timestamp"], limit=limit)
