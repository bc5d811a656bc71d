"""Every parser that is fuzzed, by name: `TARGETS["calendar"](b"mon..fri 8:00")`.

Names, options and configurations are in `model_targets.py`; what comes over the wire in `wire_targets.py`; archives,
images and what storages keep in `archive_targets.py`; what programs, the kernel and guests answer in `host_targets.py`.
"""

from fuzz import archive_targets, host_targets, model_targets, wire_targets
from fuzz.registry import CORPUS, TARGETS, Target

__all__ = ["CORPUS", "TARGETS", "Target", "archive_targets", "host_targets", "model_targets", "wire_targets"]
