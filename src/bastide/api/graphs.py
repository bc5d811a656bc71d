"""Pictures of time series, as `rrd` answers them: a file name, and the PNG's bytes as characters up to U+00FF."""

import asyncio
from typing import Any

from bastide.api.routing import Call
from bastide.base.errors import InvalidParameter
from bastide.metrics.graph import render
from bastide.metrics.series import FIELDS, Consolidation, Kind, Timeframe
from bastide.model.types import split_list


async def picture(
    call: Call, target: tuple[Kind, str], timeframe: Timeframe, sources: str, cf: Consolidation | None
) -> dict[str, Any]:
    """The answer of an `rrd` method; `target` is such as `("guest", "100")`.

    Raises InvalidParameter for a value that is not measured.
    """
    kind, name = target
    keys = list(dict.fromkeys(split_list(sources)))
    unknown = [key for key in keys if key not in FIELDS[kind]]
    if unknown or not keys:
        known = ", ".join(FIELDS[kind])
        raise InvalidParameter({"ds": f"'{','.join(unknown)[:60]}' is not measured; there are {known}"})
    consolidation = cf or "AVERAGE"
    rows = await call.services.sampler.rrddata(f"{kind}/{name}", timeframe, consolidation)
    image = await asyncio.to_thread(render, rows, keys)
    return {
        "filename": f"{name}_{'-'.join(keys)}_{timeframe}_{consolidation}.png",
        "image": image.decode("latin-1"),
    }
