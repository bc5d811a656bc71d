"""When a storage is full, from how it has been filling up.

The rate is the median of the slopes between all pairs of samples (Theil-Sen), which one large upload or one clean-up
does not bend. Its bounds come from the variance of Kendall's statistic: P. K. Sen, "Estimates of the Regression
Coefficient Based on Kendall's Tau", JASA 63 (1968).
"""

import math
from collections.abc import Sequence
from statistics import fmean, median

from bastide.base.units import GIB, MIB
from bastide.model.capacity import Outlook

DAY = 86_400.0
_POINTS = 90  # means of equal spans: pairs grow with the square
_LEAST_POINTS, _LEAST_DAYS = 8, 1.0
_NORMAL_95 = 1.96
_FAR = 3650.0


def outlook(samples: Sequence[tuple[float, float]], total: float, used: float) -> Outlook:
    """When `total` bytes are full, `used` being used now, from samples of (seconds since the epoch, bytes used)."""
    if not samples:
        return Outlook(sentence="not known: nothing was sampled yet")
    span = (max(at for at, _ in samples) - min(at for at, _ in samples)) / DAY
    points = _means(samples)
    if span >= _LEAST_DAYS and len(points) < _LEAST_POINTS:
        return Outlook(sampled=span, sentence=f"not known yet: too few samples in {_days(span)}")
    if span < _LEAST_DAYS:
        return Outlook(sampled=span, sentence=f"not known yet: {_days(span)} of samples, a day is needed at least")
    rate, low, high = _slopes(points)
    free = max(0.0, total - used)
    since = f"from {_days(span)} of samples"
    known = {"rate": rate, "sampled": span}
    if free == 0:
        return Outlook(days=0, sentence="full", **known)
    if rate <= 0 or free / rate > _FAR:
        how = "shrinking" if rate < 0 and high < 0 else "not growing" if rate <= 0 else "hardly growing"
        return Outlook(sentence=f"never at this rate: {how}, {since}", **known)
    soonest, latest = free / high, free / low if low > 0 else None
    days = free / rate
    return Outlook(
        days=days, soonest=soonest, latest=latest, sentence=_told(days, soonest, latest, rate, since), **known
    )


def _told(days: float, soonest: float, latest: float | None, rate: float, since: str) -> str:
    told = f"in about {_days(days)} at {_size(rate)} a day, {since}"
    if latest is None:
        return f"{told}; it may as well not be growing, and is not full before {_days(soonest)}"
    if latest - soonest < 0.2 * days:
        return told
    return f"{told}; between {_days(soonest)} and {_days(latest)} with 95 % confidence"


def _means(samples: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The means of equal spans of time, those without a sample left out."""
    first, last = min(at for at, _ in samples), max(at for at, _ in samples)
    width = (last - first) / _POINTS or 1.0
    spans: dict[int, list[tuple[float, float]]] = {}
    for at, value in samples:
        spans.setdefault(min(_POINTS - 1, int((at - first) / width)), []).append((at, value))
    return [(fmean(at for at, _ in some), fmean(value for _, value in some)) for _, some in sorted(spans.items())]


def _slopes(points: Sequence[tuple[float, float]]) -> tuple[float, float, float]:
    """(rate, its lower bound, its upper bound) in units a day."""
    slopes = sorted(
        (later - earlier) / (after - before) * DAY
        for number, (before, earlier) in enumerate(points)
        for after, later in points[number + 1 :]
    )
    count = len(points)
    spread = _NORMAL_95 * math.sqrt(count * (count - 1) * (2 * count + 5) / 18)
    low = max(0, math.floor((len(slopes) - spread) / 2))
    high = min(len(slopes) - 1, math.ceil((len(slopes) + spread) / 2))
    return median(slopes), slopes[low], slopes[high]


def _days(days: float) -> str:
    if days < 1:
        hours = max(1, round(days * 24))
        return f"{hours} hour{'' if hours == 1 else 's'}"
    whole = round(days)
    return f"{whole} day{'' if whole == 1 else 's'}"


def _size(size: float) -> str:
    return f"{size / GIB:.1f} GiB" if size >= GIB else f"{max(0.1, size / MIB):.1f} MiB"
