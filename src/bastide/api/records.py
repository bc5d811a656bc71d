"""`/bastide/records`: records of the state that cannot be read, and what to do about each.

Their text may hold hashes of passwords, so it is root@pam's alone.
"""

from typing import Annotated, Any

from pydantic import Field

from bastide.api.routing import Branch, Call, NoParameters
from bastide.api.shapes_nodes import SetAside, SetAsideText
from bastide.model.audit import Secret
from bastide.model.record import ANY_TEXT, Record
from bastide.operations import records
from bastide.state.checked import Aside

branch = Branch("/bastide/records")


class RecordKey(Record):
    """A record that is set aside, by its key: `guest/100`."""

    key: Annotated[str, Field(min_length=1, max_length=1024)]


class RecordText(RecordKey):
    """Its new text."""

    value: Annotated[str, Field(max_length=512 * 1024), ANY_TEXT, Secret()]


@branch.get("", NoParameters, check=("perm", "/", ("Sys.Audit",)), answer=list[SetAside])
async def list_records(call: Call, _p: NoParameters) -> list[dict[str, Any]]:
    """The records that cannot be read and are set aside; everything else is as it was."""
    return [_row(one) for one in records.listed(call.rooms)]


@branch.get("/record", RecordKey, answer=SetAsideText)
async def read_record(call: Call, p: RecordKey) -> dict[str, Any]:
    """One of them with its text."""
    found = records.find(call.rooms, p.key)
    return {**_row(found), "value": found.entry.value}


@branch.put("/record", RecordText)
async def repair_record(call: Call, p: RecordText) -> None:
    """Write one anew. A text that cannot be read either is refused with the reason."""
    await records.repair(call.rooms, p.key, p.value)


@branch.delete("/record", RecordKey)
async def discard_record(call: Call, p: RecordKey) -> None:
    """Remove one. A guest's volumes stay on their storages."""
    await records.discard(call.rooms, p.key)


def _row(one: Aside) -> dict[str, Any]:
    return {"key": one.entry.key, "reason": one.reason, "size": len(one.entry.value)}
