"""Image servers through the API: who may change them, and what an alias without one is answered with."""

from pathlib import Path

import pytest

from framework.api import Api, call

URL = "https://images.test/"


@pytest.mark.anyio
async def test_an_administrator_configures_image_servers(tmp_path: Path) -> None:
    api = await Api.make(tmp_path)
    assert await api.data("GET", "/bastide/image-servers") == []
    unknown = await call(api.root, "POST", "/bastide/images/pull", source="images:alpine/3.20")
    assert "no such image server" in unknown.json()["message"]
    await api.data("PUT", "/bastide/image-servers/images", url=URL)
    assert await api.data("GET", "/bastide/image-servers") == [{"server": "images", "url": URL}]
    user = await api.token(grants={"/": "PVEAuditor"})
    for method in ("PUT", "DELETE"):
        values = {"url": URL} if method == "PUT" else {}
        assert (await call(user, method, "/bastide/image-servers/images", **values)).status_code == 403
    refused = await call(api.root, "PUT", "/bastide/image-servers/images", url="file:///etc/passwd")
    assert (refused.status_code, list(refused.json()["errors"])) == (400, ["url"])
    await api.data("DELETE", "/bastide/image-servers/images")
    gone = await call(api.root, "DELETE", "/bastide/image-servers/images")
    assert "does not exist" in gone.json()["message"]
