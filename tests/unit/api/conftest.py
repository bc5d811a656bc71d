"""The API in process over the fakes."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from bastide.api import dispatch
from bastide.api.answers import Answer
from framework.api import Api
from framework.declared import faults


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    made = await Api.make(tmp_path)
    yield made
    await made.services.rooms.tasks.shutdown()


@pytest.fixture(autouse=True)
def declared_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a test asks, the answer is what its route declares."""
    answer = dispatch.success

    async def checked(connection: Any, result: Any) -> Any:
        path = connection.url.path.removeprefix("/api2/json").removeprefix("/api2/extjs")
        method = connection.scope["method"].replace("HEAD", "GET")
        found = faults(method, path, result.data if isinstance(result, Answer) else result)
        assert not found, "\n".join(found[:5])
        return await answer(connection, result)

    monkeypatch.setattr(dispatch, "success", checked)
