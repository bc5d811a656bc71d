"""The API in process over the fakes."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from framework.api import Api


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    made = await Api.make(tmp_path)
    yield made
    await made.services.rooms.tasks.shutdown()
