"""A daemon that dies in the middle: objects whose calls end it at a chosen point, before or after their effect.

    life = Life(deadly=7)
    rooms = replace(rooms, store=Mortal(store, life))

From that point on every call through them raises `Died`, so that nothing can be undone any more, as after kill -9.
"""

import functools
import inspect
from dataclasses import dataclass
from typing import Any

_LOOKS = frozenset(
    {"get", "list", "info", "snapshots", "usage", "disk_path", "disk_image", "clones_of", "status", "agent_answers"}
)
"""Calls that change nothing: dying there is dying before the next change."""


class Died(BaseException):
    """The daemon is gone."""


@dataclass
class Life:
    """How many points a daemon passes before it dies; None for ever. `passed` counts them."""

    deadly: int | None = None
    passed: int = 0
    dead: bool = False

    def step(self) -> None:
        """Pass a point. Raises Died at the deadly one and ever after."""
        if not self.dead and self.deadly == self.passed:
            self.dead = True
        if self.dead:
            raise Died
        self.passed += 1


class Mortal:
    """An object that lives as long as the daemon."""

    def __init__(self, target: Any, life: Life) -> None:
        self._target, self._life = target, life

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._target, name)
        if not inspect.iscoroutinefunction(found):
            return found

        @functools.wraps(found)
        async def call(*arguments: Any, **named: Any) -> Any:
            if name in _LOOKS:
                if self._life.dead:
                    raise Died
                return await found(*arguments, **named)
            self._life.step()
            result = await found(*arguments, **named)
            self._life.step()
            return result

        return call
