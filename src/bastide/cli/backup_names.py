"""Which backup, and whose, a word on the command line means."""

import re
from typing import Any

from bastide.base.errors import BastideError, InvalidParameter, NotFound
from bastide.cli import output
from bastide.cli.session import Session
from bastide.client.http import segment

_NAME = re.compile(r"(?:^|[:/])vzdump-(lxc|qemu)-([1-9]\d{2,8})-(\d{4}_\d\d_\d\d-\d\d_\d\d_\d\d)")
_LATEST = "latest:"


def known(session: Session, vmid: int | None = None, storage: str | None = None) -> list[dict[str, Any]]:
    """The backups on all storages or on one, those of a guest together and the newest first."""
    node = session.node()
    storages = [storage] if storage is not None else backup_storages(session)
    rows: list[dict[str, Any]] = []
    for name in storages:
        try:
            path = f"/nodes/{node}/storage/{segment(name)}/content"
            rows += session.client().get(path, content="backup", vmid=vmid)
        except BastideError as error:
            if storage is not None:
                raise
            output.note(f"storage {name} does not answer: {error}")
    return sorted(rows, key=lambda row: (row.get("vmid") or 0, -(row.get("ctime") or 0)))


def backup_storages(session: Session) -> list[str]:
    """The storages of this node that hold backups and are enabled."""
    rows = session.client().get(f"/nodes/{session.node()}/storage", content="backup", enabled=True)
    return [str(row["storage"]) for row in rows]


def resolve(session: Session, source: str) -> str:
    """The volume id, or the path, that a user means. Raises NotFound."""
    if source.startswith(_LATEST):
        vmid = vmid_of(session, source.removeprefix(_LATEST), _LATEST)
        rows = known(session, vmid)
        if not rows:
            raise NotFound(f"a backup of guest {vmid} does not exist: bastide backups{session.root_option} lists them")
        return str(rows[0]["volid"])
    if ":" in source or source.startswith("/"):
        return source
    name = source.removeprefix("backup/")
    found = [row["volid"] for row in known(session) if row["volid"].rpartition("/")[2] == name]
    if len(found) != 1:
        where = f"is on more than one storage: {', '.join(found)}" if found else "does not exist"
        raise NotFound(f"backup '{name}' {where}: bastide backups{session.root_option} lists them")
    return str(found[0])


def stored(session: Session, backup: str) -> str:
    """The volume id of a backup on a storage. Raises InvalidParameter, NotFound."""
    volid = resolve(session, backup)
    kind_and_vmid(volid)
    if volid.startswith("/") or ":backup/" not in volid:
        raise InvalidParameter({"backup": f"'{volid[:200]}' is no backup on a storage: STORAGE:backup/vzdump-..."})
    return volid


def vmid_of(session: Session, guest: str, before: str = "") -> int:
    """The id that a name or id means, also of a guest that is gone; `before` is what precedes it in an argument.

    Raises NotFound, or InvalidParameter when guests share the name.
    """
    if guest.isascii() and guest.isdigit():
        return int(guest)
    try:
        return session.guest(guest).vmid
    except NotFound:
        raise NotFound(
            f"a guest named '{guest[:80]}' does not exist; one that is gone goes by its id: {before}100 "
            f"(bastide backups{session.root_option} lists them)"
        ) from None
    except InvalidParameter:
        same = [str(vmid) for vmid, name in guest_names(session).items() if name == guest]
        if not same:
            raise
        kind = " or ".join(f"{before}{vmid}" for vmid in same)
        raise InvalidParameter({"guest": f"{len(same)} guests are named '{guest[:80]}': give the id, {kind}"}) from None


def guest_names(session: Session) -> dict[int, str]:
    """The guests' names, or their ids where they have none, by their ids."""
    rows: list[dict[str, Any]] = session.client().get("/cluster/resources", type="vm")
    return {int(row["vmid"]): str(row.get("name") or row["vmid"]) for row in rows}


def kind_and_vmid(volid: str) -> tuple[str, int]:
    """Of which guest a backup is: `lxc` or `qemu`, and its id. Raises InvalidParameter for what is no backup's name."""
    match = _NAME.search(volid)
    if match is None:
        raise InvalidParameter(
            {"backup": f"'{volid[:200]}' is not named as backups are: vzdump-lxc-100-2026_11_23-01_02_03 ..."}
        )
    return match[1], int(match[2])


def rules(keep: str | None) -> str | None:
    """What `--keep` says, as the API has it: a number alone is keep-last. Raises InvalidParameter."""
    if keep is None or "=" in keep:
        return keep
    if not (keep.isascii() and keep.isdigit()):
        raise InvalidParameter(
            {"keep": f"'{keep[:40]}' is neither a number nor rules: 3, or keep-daily=7,keep-weekly=4"}
        )
    return f"keep-last={keep}"
