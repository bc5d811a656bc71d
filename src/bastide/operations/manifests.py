"""What is known of an image, as a small JSON file beside it."""

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bastide.host.filesystems import replace_text

SUFFIX = ".manifest.json"


def write_manifest(path: Path, manifest: Mapping[str, Any]) -> None:
    """Write what is known of the image at `path`. Raises HostFailure, OSError."""
    replace_text(path.with_name(path.name + SUFFIX), json.dumps(dict(manifest), indent=1, sort_keys=True) + "\n")


def read_manifest(path: Path) -> dict[str, Any]:
    """What is known of the image at `path`; empty for one that came from elsewhere."""
    with contextlib.suppress(OSError, ValueError, TypeError):
        return dict(json.loads(path.with_name(path.name + SUFFIX).read_text()))
    return {}


def remove_manifest(path: Path) -> None:
    """Forget what is known of the image at `path`."""
    path.with_name(path.name + SUFFIX).unlink(missing_ok=True)
