"""The shipped catalog is whole, and services are found in it."""

import contextlib
import re
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bastide.architect import entries, systems
from bastide.architect.entries import Catalog, parse_entry
from bastide.base.errors import InvalidParameter, NotFound
from bastide.base.units import parse_size
from bastide.model.catalog import CatalogEntry

FOLDER = Path(entries.__file__).with_name("catalog")
FILES = sorted(FOLDER.glob("*.yaml"))


@cache
def shipped() -> Catalog:
    return Catalog(parse_entry(path.read_text(), path.name) for path in FILES)


def entry(name: str, *aliases: str, **more: object) -> CatalogEntry:
    extent = {"cores": 1, "memory": "1G", "disk": "4G"}
    return CatalogEntry.model_validate({
        "name": name, "title": name.title(), "summary": "does things", "category": "web", "aliases": aliases,
        "size": {"minimum": extent, "usual": extent}, "source": "a test", **more,
    })  # fmt: skip


def test_there_are_at_least_120_and_every_file_is_one() -> None:
    assert len(FILES) >= 120
    assert sorted(path.name for path in FOLDER.iterdir()) == [path.name for path in FILES]
    assert sorted(path.stem for path in FILES) == [one.name for one in shipped().entries]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_shipped_entry_is_complete(path: Path) -> None:
    found = parse_entry(path.read_text(), path.name)
    assert found.name == path.stem
    assert re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", found.name)  # also a guest's name
    assert "https://" in found.source
    assert not re.search(r"upstream (says|names|asks|counts)", found.source)  # whoever says it stands there: an address
    assert found.upstream.startswith("https://")
    least, usual = found.size.minimum, found.size.usual
    assert least.cores <= usual.cores
    for key in ("memory", "disk"):
        assert parse_size(getattr(least, key)) <= parse_size(getattr(usual, key))
    if found.needs.os is not None:
        system = systems.find(found.needs.os)
        assert parse_size(least.memory) >= system.minimum.memory
        assert parse_size(least.disk) >= system.minimum.disk
        assert least.cores >= system.minimum.cores
    assert len({(port.port, port.protocol) for port in found.ports}) == len(found.ports)


def test_no_name_and_no_alias_is_there_twice() -> None:
    owners: dict[str, str] = {}
    for one in shipped().entries:
        for word in (one.name, *one.aliases):
            assert owners.setdefault(re.sub("[._-]", "", word), one.name) == one.name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("jellyfin", "jellyfin"), ("Jellyfin ", "jellyfin"), ("jelyfin", "jellyfin"), ("jellifin", "jellyfin"),
        ("pi-hole", "pihole"), ("Pi Hole", "pihole"), ("hass", "home-assistant"), ("homeassistant", "home-assistant"),
        ("haos", "home-assistant-os"), ("nextclod", "nextcloud"), ("vaultwaden", "vaultwarden"),
        ("bitwarden", "vaultwarden"), ("grafna", "grafana"), ("mongo", "mongodb"), ("kuberntes", "kubernetes-node"),
        ("k8s", "kubernetes-node"), ("adgaurd", "adguard-home"), ("paperles", "paperless-ngx"), ("gittea", "gitea"),
        ("uptimekuma", "uptime-kuma"), ("uptime kuma", "uptime-kuma"), ("truenas", "truenas-scale"),
        ("active directory", "windows-dc"), ("qbitorrent", "qbittorrent"), ("wiki.js", "wikijs"),
        ("pbs", "proxmox-backup-server"),
    ],
)  # fmt: skip
def test_a_service_is_found(text: str, name: str) -> None:
    assert shipped().find(text).name == name


@pytest.mark.parametrize(
    "text", ["plx", "home", "arr", "wikimedia-commons-thing", "", " ", "../../etc/passwd", "a" * 500]
)
def test_what_is_not_near_to_one_alone_is_not_guessed(text: str) -> None:
    with pytest.raises(NotFound, match="no such service '"):
        shipped().find(text)


def test_the_error_names_what_is_near() -> None:
    with pytest.raises(NotFound, match=r"no such service 'plx' in the catalog; did you mean plex, .*\?"):
        shipped().find("plx")
    with pytest.raises(NotFound, match="'bastide catalog' lists what there is"):
        shipped().find("zzzzzzzz")


def test_two_that_are_as_near_are_both_named() -> None:
    with pytest.raises(NotFound, match="did you mean sonarr-a, sonarr-b"):
        Catalog([entry("sonarr-a"), entry("sonarr-b")]).find("sonarr-c")


@given(st.data())
def test_one_slip_of_the_finger_finds_or_suggests_the_service(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from([one.name for one in shipped().entries if len(one.name) >= 6]))
    place = data.draw(st.integers(0, len(name) - 1))
    kind = data.draw(st.sampled_from(["drop", "double", "swap", "other"]))
    head, char, tail = name[:place], name[place], name[place + 1 :]
    slips = {
        "drop": head + tail,
        "double": head + char * 2 + tail,
        "swap": head + tail[:1] + char + tail[1:],
        "other": head + "x" + tail,
    }
    text = slips[kind]
    try:
        found = shipped().find(text).name
    except NotFound:
        found = ""
    words = {re.sub("[._-]", "", word) for one in shipped().entries for word in (one.name, *one.aliases)}
    assert found == name or name in shipped().near(text) or re.sub("[._-]", "", text) in words


@given(st.text(max_size=100))
def test_whatever_is_typed_finds_an_entry_or_is_told_so(text: str) -> None:
    with contextlib.suppress(NotFound):
        assert shipped().find(text) in shipped().entries
    assert len(shipped().near(text)) <= 5
    assert set(shipped().search([text])) <= set(shipped().entries)


@given(st.data())
def test_every_name_and_alias_finds_its_own_entry(data: st.DataObject) -> None:
    one = data.draw(st.sampled_from(shipped().entries))
    for word in (one.name, *one.aliases):
        assert shipped().find(word) == one
        assert shipped().find(word.upper().replace("-", " ")) == one
        assert one in shipped().search([word])
        assert one in shipped().search([word], one.category)


def test_a_search_puts_names_first_and_takes_all_words() -> None:
    assert shipped().search(["photos"])[0].name in ("immich", "photoprism")
    assert shipped().search(["nginx"])[0].name == "nginx"
    assert "vaultwarden" in {one.name for one in shipped().search(["passwords"])}
    assert {"sonarr", "radarr"} <= {one.name for one in shipped().search(["finds", "sorts"])}
    assert shipped().search(["finds sorts"]) == shipped().search(["sorts", "finds"])
    assert shipped().search(["zigbee", "minecraft"]) == ()
    assert {one.category for one in shipped().search([], "dns")} == {"dns"}
    assert len(shipped().search([])) == len(shipped()) == len(FILES)


def test_entries_above_hide_those_of_the_same_name_and_take_aliases() -> None:
    below = Catalog([entry("nginx", "www"), entry("caddy")])
    above = Catalog([entry("nginx", "web-server", title="Ours"), entry("hello", "www")], below)
    assert [one.name for one in above.entries] == ["caddy", "hello", "nginx"]
    assert above.find("nginx").title == above.find("web server").title == "Ours"
    assert above.find("www").name == "hello"
    assert above.get("caddy") == below.get("caddy")
    assert below.find("www").name == "nginx"
    assert above.get("zzz") is None


@pytest.mark.parametrize("second", [entry("web"), entry("w", "we-b"), entry("w", "site")])
def test_two_entries_of_one_name_are_refused(second: CatalogEntry) -> None:
    with pytest.raises(InvalidParameter, match="also means the entry web"):
        Catalog([entry("web", "site"), second])


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("memory: 4G", "own.yaml: line 5: memory: this key is not known"),
        ("name: Own Thing", "own.yaml: line 5: name"),
        ("state: [", "own.yaml: line 6: is not YAML"),
        ("size: {minimum: {cores: 1, memory: 512, disk: 4G}}", "own.yaml: line 5: size.minimum.memory: say the unit"),
    ],
)
def test_a_faulty_entry_is_told_with_file_and_line(line: str, told: str) -> None:
    kept = ["name: own", "title: Own", "summary: Ours", "category: web"]
    kept = ["#" if one.partition(":")[0] == line.partition(":")[0] else one for one in kept]
    with pytest.raises(InvalidParameter) as caught:
        parse_entry("\n".join([*kept, line]) + "\n", "own.yaml")
    assert told in str(caught.value)


def test_needs_that_do_not_belong_in_an_entry_are_told() -> None:
    text = (FOLDER / "pihole.yaml").read_text()
    with pytest.raises(InvalidParameter) as caught:
        parse_entry(f"{text}needs: {{kind: vm}}\n", "own.yaml")
    assert caught.value.errors == {f"own.yaml: line {text.count(chr(10)) + 1}: needs": "'kind' does not belong here"}
