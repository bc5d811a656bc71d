"""`catalog`: a table of what was searched for, or all about one service."""

import os
from pathlib import Path

import pytest

ROWS = [
    {"name": "nginx", "title": "nginx", "summary": "Web server", "category": "web", "aliases": [], "installs": 1},
    {"name": "nginx-proxy-manager", "title": "NPM", "summary": "A proxy", "category": "proxy", "aliases": ["npm"],
     "installs": 0},
]  # fmt: skip
ENTRY = {
    "name": "frigate", "title": "Frigate", "summary": "Records cameras", "category": "home-automation",
    "aliases": ["frigate-nvr"], "state": "files", "source": "a page",
    "needs": {"engine": "docker", "devices": [{"type": "usb", "mode": "node"}, {"type": "gpu"}], "appliance": False},
    "ports": [{"port": 8971, "protocol": "tcp", "what": "web"}, {"port": 8555, "protocol": "udp"}],
    "size": {
        "minimum": {"cores": 1, "memory": "4G", "disk": "32G"}, "usual": {"cores": 4, "memory": "8G", "disk": "64G"},
    },
    "upstream": "https://frigate.test/", "notes": ["Recordings need space.", "\x1b[31mred"],
}  # fmt: skip


@pytest.fixture
def catalog(daemon):
    daemon.on("GET", "/architect/catalog", ROWS)
    daemon.on("GET", "/architect/catalog/frigate", ENTRY)
    daemon.on("GET", "/architect/catalog/nginx", ENTRY | {"recipe": {"packages": ["nginx"]}, "name": "nginx"})
    return daemon


def test_a_table_of_what_is_searched_for(catalog, run) -> None:
    found = run("catalog", "web", "server", "--category", "web")
    assert found.code == 0
    assert [line.split()[0] for line in found.out.splitlines()[2:]] == ["nginx", "nginx-proxy-manager"]
    assert catalog.posted("GET", "/architect/catalog") == {"query": "web server", "category": "web"}
    assert "2 services" in found.err
    assert run("catalog", "--json").json == ROWS
    assert catalog.posted("GET", "/architect/catalog") == {}


def test_one_that_is_named_is_shown_whole(catalog, run) -> None:
    found = run("catalog", "nginx")
    assert "bastide launch" in found.out
    catalog.on("GET", "/architect/catalog", ROWS[:1])
    assert run("catalog", "web", "server", "--json").json["name"] == "nginx"  # it alone was found
    catalog.on("GET", "/architect/catalog", [])
    shown = run("catalog", "frigate").out
    assert "engine: docker" in shown
    assert "devices: type usb, mode node; type gpu" in shown
    assert "appliance: no" in shown
    assert "1 core, 4G memory, 32G disk" in shown
    assert "8971/tcp (web)" in shown
    assert "8555/udp" in shown
    assert "a page" in shown
    assert "\x1b" not in shown
    assert "bastide launch" not in shown
    assert run("catalog", "frigate", "--json").json == ENTRY


def test_what_is_not_there_is_told(catalog, run, refusal) -> None:
    catalog.on("GET", "/architect/catalog", [])
    catalog.on(
        "GET", "/architect/catalog/plx", refusal(500, "no such service 'plx' in the catalog; did you mean plex?")
    )
    found = run("catalog", "plx")
    assert found.code == 3
    assert "did you mean plex?" in found.err
    assert run("catalog", "a/b").code == 3
    nothing = run("catalog", "plx", "--category", "web")
    assert (nothing.code, nothing.out) == (0, "")
    assert "no such service" in nothing.err


def test_a_folder_is_sent_as_a_whole_path(catalog, run, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    run("catalog", "--catalog", "more")
    assert catalog.posted("GET", "/architect/catalog") == {"catalog": os.path.join(tmp_path, "more")}
