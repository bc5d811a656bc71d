"""The catalog through the API: rows, one entry, and who may name a folder of the host's."""

from pathlib import Path

import pytest

from framework.api import Api, call

pytestmark = pytest.mark.anyio

ROW = {"name", "title", "summary", "category", "aliases", "installs"}


async def test_anybody_lists_and_reads_services(api: Api) -> None:
    user = await api.token()
    rows = (await call(user, "GET", "/architect/catalog")).json()["data"]
    assert len(rows) >= 120
    assert set(rows[0]) == ROW
    found = await api.data("GET", "/architect/catalog", query="photos machine learning", category="photos")
    assert {row["name"] for row in found} == {"immich", "photoprism"}
    assert await api.data("GET", "/architect/catalog", query="no such words") == []

    entry = (await call(user, "GET", "/architect/catalog/Pi-Hole")).json()["data"]
    assert entry["name"] == "pihole"
    assert {"port": 53, "protocol": "udp", "what": "DNS"} in entry["ports"]
    assert entry["size"]["minimum"] == {"cores": 1, "memory": "512M", "disk": "2G"}
    assert "recipe" not in entry


async def test_a_service_that_is_not_there_is_told_with_what_is_near(api: Api) -> None:
    answer = await call(api.root, "GET", "/architect/catalog/plx")
    assert answer.status_code == 500  # as the reference answers for what does not exist
    assert "no such service 'plx' in the catalog; did you mean plex" in answer.json()["message"]
    wrong = await call(api.root, "GET", "/architect/catalog", category="toys")
    assert (wrong.status_code, list(wrong.json()["errors"])) == (400, ["category"])


async def test_only_root_names_a_folder_of_the_hosts(api: Api, tmp_path: Path) -> None:
    folder = tmp_path / "more"
    folder.mkdir()
    shipped = await api.data("GET", "/architect/catalog/ntfy")
    text = f"name: intranet\ntitle: Intranet\nsummary: Ours\ncategory: web\nsize: {shipped['size']}\nsource: ours\n"
    (folder / "intranet.yaml").write_text(text)
    entry = await api.data("GET", "/architect/catalog/intranet", catalog=str(folder))
    assert entry["title"] == "Intranet"
    assert [row["name"] for row in await api.data("GET", "/architect/catalog", query="intranet", catalog=str(folder))]

    user = await api.token(grants={"/": "Administrator"})
    for path in ("/architect/catalog", "/architect/catalog/intranet"):
        refused = await call(user, "GET", path, catalog=str(folder))
        assert (refused.status_code, "only root@pam" in refused.json()["message"]) == (403, True)
    assert (await call(api.root, "GET", "/architect/catalog", catalog="more")).status_code == 400

    (folder / "intranet.yaml").write_text(f"{text}colour: red\n")
    faulty = await call(api.root, "GET", "/architect/catalog/intranet", catalog=str(folder))
    assert faulty.status_code == 400
    assert faulty.json()["errors"] == {f"{folder}/intranet.yaml: line 7: colour": "this key is not known"}
