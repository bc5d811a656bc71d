"""A guest with what its findings have in common: whether there are samples enough, and how a finding is made."""

import math
from typing import Any

from bastide.model.advice import Confidence
from bastide.model.review import Finding, Observed, Severity, Window

ENOUGH = 30
"""Samples below which nothing is said of sizes: with fewer, the 95th percentile is as good as the maximum."""

ENOUGH_SHARE = 0.1
"""And the share of the window that they cover: an hour says nothing of a week."""

WELL_COVERED = 0.5
"""Share of the window from which a judgement counts as sure: half a week holds working days or most of a weekend."""


class Looks:
    """One guest in a review over a window."""

    def __init__(self, one: Observed, window: Window) -> None:
        self.one = one
        self.window = window
        self.over = f"over the last {window}"
        self.needed = max(ENOUGH, math.ceil(ENOUGH_SHARE * one.buckets))

    @property
    def enough(self) -> bool:
        """Whether its sizes can be judged."""
        return self.one.samples >= self.needed

    def finding(self, name: str, severity: Severity, text: str, effect: str, **rest: Any) -> Finding:
        """A finding that rests on the window's samples; `rest` are more of its fields."""
        one = self.one
        sure: Confidence = "high" if one.samples >= max(ENOUGH, WELL_COVERED * one.buckets) else "moderate"
        return Finding(
            id=name, vmid=one.vmid, guest=one.name, kind=one.kind, severity=severity, finding=text, effect=effect,
            **{"since": one.since, "samples": one.samples, "confidence": sure, **rest},
        )  # fmt: skip

    def now(self, name: str, severity: Severity, text: str, effect: str, **rest: Any) -> Finding:
        """A finding that rests on what is seen at this moment."""
        return self.finding(name, severity, text, effect, **{"since": None, "samples": 0, "confidence": "high", **rest})
