"""Options of the whole datacenter, under `setting/datacenter`: so far the site that security keys are for."""

import json

from bastide.model.factors import WebauthnOptions
from bastide.operations.rooms import Rooms
from bastide.state.store import ABSENT

_KEY = "setting/datacenter"


async def webauthn(rooms: Rooms) -> WebauthnOptions | None:
    """What is configured of the site that security keys are for; None for nothing."""
    entry = await rooms.store.get(_KEY)
    text = json.loads(entry.value).get("webauthn") if entry is not None else None
    return None if text is None else WebauthnOptions.model_validate(text)


async def set_webauthn(rooms: Rooms, options: WebauthnOptions | None) -> None:
    """Configure that site, or forget it. Raises Conflict when somebody else is changing the options."""
    entry = await rooms.store.get(_KEY)
    kept = json.loads(entry.value) if entry is not None else {}
    kept.pop("webauthn", None)
    if options is not None:
        kept["webauthn"] = str(options)
    await rooms.store.put(_KEY, json.dumps(kept), entry.revision if entry is not None else ABSENT)
