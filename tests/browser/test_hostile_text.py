"""Forty texts that would be more than text, in every field that a guest or a user controls: all stay text.

They are put in through the API, or by a guest, at once; then every place that shows them is visited once.
"""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import Route, expect

from bastide.base.layout import Layout
from bastide.operations.architect import catalog
from framework.browser import Person, Window, admit
from framework.host import ApiFailure, Host
from framework.hostile import MADE, PAYLOADS, TERMINAL, WATCH
from framework.patience import PATIENCE

pytestmark = [pytest.mark.system, pytest.mark.timeout(400)]

LINES = "\n\n".join(PAYLOADS)
SOME = PAYLOADS[::6]
# What can name a file: a name has no slash, and an end of its own.
NAMES = [text for text in PAYLOADS if "/" not in text and len(text.encode()) < 200]


class House:
    """A host with hostile text wherever it takes some, and what of it stands where."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.content = f"/nodes/{host.node}/storage/local/content"
        self.shown: dict[str, list[str]] = {}
        admit(host, "ada@pve")
        self.ct = host.create(start=True, hostname="plain", cmode="shell")
        self.vm = host.create_vm(agent=1)
        self._quiet_places()
        self._catalog()
        self._people()
        self._guests()
        self._files()
        self._backup()
        self._task()

    def _quiet_places(self) -> None:
        """By what it is known that one is there."""
        self.shown |= {
            "/": ["Overview"],
            "/tasks": [f"Back up {self.ct}"],
            "/images": ["Images"],
            "/create/vm": ["Create VM"],
            "/create/ct": ["Create CT"],
            "/access/permissions": ["What somebody may do"],
            "/access/audit": ["Came of it"],
            "/storage/local": [PAYLOADS[0]],
            f"/guests/{self.ct}/summary": ["plain"],
            f"/guests/{self.ct}/options": ["Start with the host"],
            f"/guests/{self.ct}/notes": [PAYLOADS[-3]],
            f"/guests/{self.ct}/backups": [PAYLOADS[0]],
            f"/guests/{self.ct}/tasks": ["Back up"],
            f"/guests/{self.vm}/summary": [f"host {PAYLOADS[1]}", PAYLOADS[2], PAYLOADS[3], PAYLOADS[5]],
            f"/guests/{self.vm}/network": [PAYLOADS[1], PAYLOADS[4], PAYLOADS[-1]],
            f"/guests/{self.vm}/options": ["Start with the host"],
            f"/guests/{self.vm}/notes": [PAYLOADS[-3]],
            f"/guests/{self.vm}/snapshots": [PAYLOADS[0]],
        }

    def _each(self, page: str, call: Callable[[int, str], Any]) -> None:
        """Every text by itself; what the API refuses is nowhere to be seen."""
        for number, text in enumerate(PAYLOADS):
            with suppress(ApiFailure):
                call(number, text)
                self.shown.setdefault(page, []).append(text)

    def _people(self) -> None:
        post = self.host.post
        self._each("/access", lambda n, text: post("/access/users", userid=f"u{n}@pve", comment=text, lastname=text))
        self._each("/access/groups", lambda n, text: post("/access/groups", groupid=f"g{n}", comment=text))
        self._each("/pools", lambda n, text: post("/pools", poolid=f"p{n}", comment=text))
        self._each("/access/tokens", lambda n, text: post(f"/access/users/ada@pve/token/t{n}", comment=text))
        for text in SOME:
            for path, name in (("/access/users", "userid"), ("/access/groups", "groupid"), ("/access/roles", "roleid")):
                with pytest.raises(ApiFailure):
                    post(path, **{name: text})

    def _catalog(self) -> None:
        """Services with such titles and descriptions; what the catalog refuses is not in it."""
        folder = catalog.folder(Layout(self.host.root))
        folder.mkdir(parents=True, exist_ok=True)
        sizes = {"cores": 1, "memory": "64M", "disk": "1G"}
        for number, text in enumerate(SOME):
            entry = {"name": f"h{number}", "title": text, "summary": text, "category": "web", "source": "none",
                     "ports": [{"port": 80, "what": text}], "size": {"minimum": sizes, "usual": sizes}}  # fmt: skip
            (folder / f"h{number}.yaml").write_text(json.dumps(entry))
        titles = {row["name"]: row["title"] for row in self.host.get("/architect/catalog")}
        taken = [name for name in titles if name.startswith("h") and name[1:].isdigit()]
        assert taken, "no such title is in the catalog"
        self.shown |= {f"/architect/catalog/{name}": [titles[name]] for name in taken}

    def _guests(self) -> None:
        host = self.host
        for text in SOME:
            for vmid, name in ((self.ct, "hostname"), (self.vm, "name")):
                with pytest.raises(ApiFailure):
                    host.put(host.path(vmid, "/config"), **{name: text})
            for vmid in (self.ct, self.vm):
                with suppress(ApiFailure):
                    host.put(host.path(vmid, "/config"), tags=text)
        for vmid in (self.ct, self.vm):
            host.put(host.path(vmid, "/config"), description=LINES)
        host.wait(host.post(host.path(self.vm, "/snapshot"), snapname="hostile", description=LINES))
        host.act(self.vm, "start")

    def _files(self) -> None:
        store = self.host.root / "state/storage"
        for folder, end in (("snippets", ".yaml"), ("template/iso", ".iso")):
            (store / folder).mkdir(parents=True, exist_ok=True)
            for name in NAMES:
                (store / folder / f"{name}{end}").write_bytes(b"")

    def _backup(self) -> None:
        host = self.host
        script = 'mkdir -p /srv/h && cd /srv/h && while IFS= read -r name; do touch -- "$name"; done'
        host.cli("exec", str(self.ct), "--", "sh", "-c", script, input="\n".join([*NAMES, ""]))
        self.task: str = host.post(f"/nodes/{host.node}/vzdump", vmid=self.ct, storage="local", compress="zstd")
        host.wait(self.task)
        [row] = host.get(self.content, content="backup")
        self.backup: str = row["volid"]
        host.put(f"{self.content}/{self.backup}", notes=LINES)
        self.shown[f"/backups/files/{quote(self.backup, safe='')}?folder=/srv/h/"] = NAMES
        self.shown["/backups"] = [PAYLOADS[0]]
        host.post("/cluster/backup", id="job", schedule="daily", storage="local", all=1, comment=PAYLOADS[0])
        self.shown["/backups/jobs"] = [PAYLOADS[0]]

    def _task(self) -> None:
        """A task whose log tells what a guest printed."""
        [log] = (self.host.root / "log/tasks").glob(f"*/{self.task}")
        end = log.read_bytes()
        log.write_bytes("\n".join([*TERMINAL, "a\0b", *reversed(PAYLOADS), ""]).encode() + end)
        self.shown[f"/tasks/{quote(self.task)}"] = [PAYLOADS[0], PAYLOADS[2]]  # a log is shown from its end


@pytest.fixture
def hostile(own_host: Host) -> House:
    return House(own_host)


@pytest.fixture
def person(window: Window, hostile: House) -> Iterator[Person]:
    """Ada, whose browser tells of what the walls had to stop."""
    with window.person(hostile.host, None) as person:
        person.page.expose_function("complain", lambda text: person.complaints.append(f"stopped: {text}"))
        person.page.add_init_script(WATCH)
        person.page.on("dialog", lambda dialog: person.complaints.append(f"dialog: {dialog.message}"))
        person.page.goto(person.address)
        person.login("ada@pve")
        yield person


def go(person: Person, path: str) -> None:
    """To another place, without loading the page anew."""
    person.page.evaluate(
        "path => { history.pushState({}, '', path); dispatchEvent(new PopStateEvent('popstate')) }", path
    )


def visit(person: Person, path: str, shown: list[str]) -> None:
    """Wait until a place shows what is to be seen there; nothing else may have come of it."""
    go(person, path)
    for text in shown:
        pattern = re.compile(re.escape(text.strip()).replace(r"\ ", r"\s+"))
        person.page.locator("main").get_by_text(pattern).first.wait_for(state="attached")
    expect(person.page.get_by_role("status", name="Loading")).to_have_count(0, timeout=20_000 * PATIENCE)
    nothing_came_of_it(person, path)


def nothing_came_of_it(person: Person, where: str) -> None:
    found = person.page.evaluate(MADE)
    assert (found, person.complaints) == ([], []), where
    assert "hostile" not in person.page.title(), where


def told_by_an_agent(route: Route) -> None:
    """What a VM's agent may answer, whose every word is the guest's."""
    answer: Any = {"host-name": f"host {PAYLOADS[1]}", "pretty-name": PAYLOADS[2], "kernel-release": PAYLOADS[3]}
    if "interfaces" in route.request.url:
        answer = [{"name": text, "hardware-address": text, "ip-addresses": [{"ip-address": text, "prefix": 24}]}
                  for text in PAYLOADS]  # fmt: skip
    elif "fsinfo" in route.request.url:
        answer = [{"mountpoint": text, "name": text, "used-bytes": 1, "total-bytes": 2} for text in PAYLOADS]
    route.fulfill(status=200, content_type="application/json", body=json.dumps({"data": {"result": answer}}))


def test_text_stays_text(person: Person, hostile: House) -> None:
    """ATTACKS 23. Without the writing of text as text, or the policy that stops what is made of it, this fails."""
    for asked in ("get-*", "network-get-interfaces"):
        person.page.route(f"**/agent/{asked}", told_by_an_agent)
    for path, texts in hostile.shown.items():
        visit(person, path, texts)
    look_into_dialogs(person, hostile)
    type_everywhere(person)
    write_plans(person)
    print_at_console(person, hostile)
    ask_for_addresses(person)


def look_into_dialogs(person: Person, hostile: House) -> None:
    page = person.page
    person.open("/backups")
    page.get_by_role("button", name=re.compile("^Actions of vzdump-")).click()
    page.get_by_role("menuitem", name="Edit notes").click()
    assert page.get_by_role("dialog").get_by_role("textbox", name="Notes").input_value() == LINES.strip()
    nothing_came_of_it(person, "notes of a backup")
    person.open(f"/guests/{hostile.ct}/notes")
    page.get_by_text("window.ran=19").first.wait_for()  # entities are text, and no script
    assert page.get_by_role("link", name="link", exact=True).count() == 0
    nothing_came_of_it(person, "Markdown")


def type_everywhere(person: Person) -> None:
    """What a hand puts into the searches."""
    page = person.page
    person.open("/architect")
    for text in PAYLOADS:
        page.get_by_placeholder("jellyfin, photos, dns ...").fill(text)
    nothing_came_of_it(person, "search of the catalog")
    page.keyboard.press("Control+k")
    for text in PAYLOADS:
        page.get_by_placeholder("Guest, storage, page, or: start web").fill(text)
    nothing_came_of_it(person, "palette")
    page.keyboard.press("Escape")


def write_plans(person: Person) -> None:
    """A plan whose every word is hostile, and which is told of line by line."""
    person.open("/architect/plan")
    services = "".join(f"- name: {json.dumps(text)}\n  service: {json.dumps(text)}\n" for text in PAYLOADS)
    editor = person.page.get_by_role("textbox", name="The plan, in YAML")
    for text in (f"name: {json.dumps(PAYLOADS[0])}\nservices:\n{services}", f"name: p\nservices:\n{services}", LINES):
        editor.fill(text)
        person.page.get_by_role("main").get_by_role("alert").wait_for()
        nothing_came_of_it(person, "plan")
        editor.fill("")
        person.page.get_by_role("main").get_by_role("alert").wait_for(state="detached")


def print_at_console(person: Person, hostile: House) -> None:
    """10 MB that a guest prints at once, then its texts: no command of theirs reaches clipboard, title or address."""
    page, host = person.page, hostile.host
    printed = "\n".join([*PAYLOADS, *TERMINAL, ""])
    host.cli("exec", str(hostile.ct), "--", "sh", "-c", "cat > /root/printed", input=printed)
    person.open(f"/guests/{hostile.ct}/console")
    terminal = page.get_by_role("region", name="Terminal of plain")
    page.get_by_role("textbox", name="Terminal of plain").focus()
    expect(terminal).to_contain_text("#")
    page.keyboard.type(f"yes {'W' * 80} | head -c 10000000; echo $((73*137))\n")
    expect(terminal).to_contain_text(re.compile("10001|output was left out"), timeout=90_000 * PATIENCE)
    page.evaluate("navigator.clipboard.writeText('mine')")
    page.keyboard.type("cat /root/printed; echo $((41*271))\n")
    expect(terminal).to_contain_text("11111")
    page.locator(".xterm-rows").get_by_text("a link", exact=True).first.click(force=True)
    assert page.evaluate("navigator.clipboard.readText()") == "mine"
    assert len(person.context.pages) == 1
    nothing_came_of_it(person, "console")


def ask_for_addresses(person: Person) -> None:
    places = ("/{}", "/guests/{}/summary", "/tasks/{}", "/backups/{}", "/storage/{}", "/architect/catalog/{}",
              "/tasks?user={0}&type={0}&state={0}", "/architect?search={}", "/#{}")  # fmt: skip
    for number, text in enumerate(PAYLOADS):
        for place in (places[number % 9], places[(number + 5) % 9]):
            go(person, place.format(quote(text, safe="")))
    person.page.get_by_role("heading", level=1).first.wait_for()
    nothing_came_of_it(person, "addresses")
