"""The pictures of the documents: the main pages, light and dark, of a host that has worked for some minutes.

    ./bastide test -m slow tests/browser/test_screenshots.py

writes docs/images/page/*.png anew. Every figure on them was measured.
"""

import io
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

from framework import browser
from framework.browser import Person, Scheme, Window
from framework.host import Host

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.timeout(3600)]

PICTURES = Path(__file__).resolve().parents[2] / "docs/images/page"
MOST = 150_000
# Of a host that has just begun, charts of an hour show little.
MINUTES = float(os.environ.get("BASTIDE_PICTURES_MINUTES", "12"))
SERVICES = {"web": "nginx;public", "git": "gitea;internal", "photos": "immich;media", "vault": "vaultwarden;internal"}
NOTES = "## Git for the house\n\nRuns **Gitea**, backed up each night.\n\n* `ssh -p 22 git@git`\n* [Manual](https://docs.gitea.com/)\n"
WORK = """
while :; do
    head -c {size}M /dev/urandom | gzip -1 >/var/tmp/work; sync; cat /var/tmp/work >/dev/null; sleep {rest}
done
"""


@dataclass(frozen=True)
class Town:
    """A host with guests that people know, and their vmids."""

    host: Host
    guests: dict[str, int]


@pytest.fixture(scope="module")
def town() -> Iterator[Town]:
    with Host.launched(node="bastide") as host:
        made = build(host)
        time.sleep(MINUTES * 60)
        yield made


def build(host: Host) -> Town:
    """What a house of some services looks like after its first evening."""
    browser.admit(host, "ada@pve")
    host._vmid = 99  # as on a host of one's own
    guests = {
        name: host.create(
            hostname=name,
            tags=tags,
            password=browser.PASSWORD,
            memory=384 + 128 * number,
            cores=1 + number % 2,
            start=True,
        )
        for number, (name, tags) in enumerate(SERVICES.items())
    }
    guests["minecraft"] = host.create(hostname="minecraft", tags="games", memory=2048, cores=2)
    guests["home"] = host.create_vm(
        name="home", memory=256, tags="internal", scsihw="virtio-scsi-pci", scsi0="local:4", start=True
    )
    for number, name in enumerate(SERVICES):
        host.wait_booted(guests[name])
        work = WORK.format(size=6 - number, rest=7 + 5 * number)
        host.execute(guests[name], "sh", "-c", f"nohup sh -c '{work}' >/dev/null 2>&1 &")
    host.put(host.path(guests["git"], "/config"), description=NOTES, onboot=1)
    _keep_states(host, guests["git"])
    for name in ("git", "web"):
        host.wait(host.post(f"/nodes/{host.node}/vzdump", vmid=guests[name], storage="local", mode="snapshot"), 600)
    host.post("/cluster/backup", schedule="02:30", storage="local", all=1, mode="snapshot", comment="every night",
              **{"prune-backups": "keep-daily=7,keep-weekly=4"})  # fmt: skip
    return Town(host, guests)


def _keep_states(host: Host, vmid: int) -> None:
    """A tree of snapshots with a branch: an upgrade that was tried and taken back."""
    place = host.path(vmid, "/snapshot")
    host.wait(host.post(place, snapname="installed", description="as it was set up"))
    host.wait(host.post(place, snapname="upgraded", description="1.24, which did not start"))
    host.wait(host.post(f"{place}/installed/rollback", start=1))
    host.wait_booted(vmid)
    host.wait(host.post(place, snapname="before-1-25", description="tried again"))


def _places(town: Town, scheme: Scheme) -> dict[str, tuple[str, str]]:
    """Of each picture the address and the words that show that it is complete."""
    vmid = town.guests
    at_login = vmid["photos" if scheme == "dark" else "web"]  # who was logged in on a console stays so
    return {
        "overview": ("/", "minecraft"),
        "guest": (f"/guests/{vmid['web']}/summary", "Memory"),
        "console": (f"/guests/{at_login}/console", ""),
        "snapshots": (f"/guests/{vmid['git']}/snapshots", "before-1-25"),
        "architect": ("/architect?service=jellyfin", "confidence"),
        "backups": ("/backups", "git"),
        "create-ct": ("/create/ct", "Template"),
    }


def _take(person: Person, name: str, scheme: Scheme) -> None:
    """Write a picture with a palette of 256 colours, which keeps text clear and the file small."""
    person.page.mouse.move(0, 0)
    shot = Image.open(io.BytesIO(person.page.screenshot(animations="disabled", caret="hide")))
    path = PICTURES / f"{name}-{scheme}.png"
    shot.convert("RGB").quantize(256, kmeans=1, dither=Image.Dither.NONE).save(path, optimize=True)
    assert path.stat().st_size < MOST, f"{path.name} is too large for a document"


def _prepare(person: Person, name: str) -> None:
    """What somebody would do there before they show it."""
    if name == "console":
        person.page.locator(".xterm-screen").click()
        for asked, answered in (
            ("login:", "root"), ("Password:", browser.PASSWORD), ("root@", "uname -sr; ip -br address; df -h /"),
            ("Mounted", ""),
        ):  # fmt: skip
            person.page.locator(".xterm-rows").get_by_text(asked).last.wait_for()
            person.page.keyboard.type(answered + "\n")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pictures_of_the_main_pages(window: Window, town: Town, scheme: Scheme) -> None:
    picture(window, town, scheme)


def picture(window: Window, town: Town, scheme: Scheme) -> None:
    """Take them all in one scheme."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    with window.person(town.host, scheme=scheme) as person:
        person.page.set_viewport_size({"width": 1280, "height": 800})
        for name, (address, words) in _places(town, scheme).items():
            person.open(address)
            main = person.page.get_by_role("main")
            main.get_by_label("Loading").first.wait_for(state="detached")
            if words:
                main.get_by_text(words).first.wait_for()
            _prepare(person, name)
            person.page.wait_for_load_state("load")
            person.page.wait_for_timeout(2500)  # charts draw, and what arrives by events has arrived
            _take(person, name, scheme)
