"""Consoles at the page: a container's terminal and a VM's screen, as a person uses them."""

import pytest
from playwright.sync_api import Locator, expect

from framework.browser import Person
from framework.host import Host

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

LIT = """() => {
    const canvas = document.querySelector("section[aria-label^=Screen] canvas");
    if (!canvas?.width) return 0;
    const bytes = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
    let lit = 0;
    for (let at = 0; at < bytes.length; at += 4) lit += bytes[at] > 99 ? 1 : 0;
    return lit;
}"""


def answers(person: Person, terminal: Locator, sum_: str, answer: str) -> None:
    """Type a sum and wait for what it comes to, which nobody has typed."""
    person.page.keyboard.type(f"echo $(({sum_}))\n")
    expect(terminal).to_contain_text(answer)


def test_a_terminal_types_pastes_grows_and_outlives_a_restart(person: Person, house: Host) -> None:
    vmid = house.create(start=True, net0=None, cmode="shell", hostname="types")
    page = person.page
    person.open(f"/guests/{vmid}/console")
    terminal = page.get_by_role("region", name="Terminal of types")
    page.get_by_role("textbox", name="Terminal of types").wait_for()
    expect(terminal).to_contain_text("#")
    answers(person, terminal, "41*271", "11111")

    # Colours that xterm mends for their contrast: the policy must let it.
    page.keyboard.type("printf '\\033[7m%s\\033[0m\\n' $((17*293))\n")
    expect(terminal).to_contain_text("4981")

    page.evaluate("navigator.clipboard.writeText('echo $((3*8117))')")
    page.keyboard.press("Control+F6")
    expect(page.get_by_role("button", name="Copy", exact=True)).to_be_focused()
    page.get_by_role("button", name="Paste").click()
    page.get_by_role("button", name="Send", exact=True).click()
    page.keyboard.press("Enter")
    expect(terminal).to_contain_text("24351")

    before = terminal.locator(".xterm-rows > div").count()
    page.set_viewport_size({"width": 1280, "height": 1000})
    expect(terminal.locator(".xterm-rows > div")).not_to_have_count(before)
    rows = terminal.locator(".xterm-rows > div").count()
    page.keyboard.type("echo size $(stty size)\n")
    expect(terminal).to_contain_text(f"size {rows} ")
    assert person.axe() == []

    house.act(vmid, "reboot")
    terminal.get_by_text("Connected", exact=True).wait_for(state="attached")
    expect(terminal).to_contain_text("#")
    page.get_by_role("textbox", name="Terminal of types").focus()
    answers(person, terminal, "73*137", "10001")

    house.act(vmid, "stop")
    page.get_by_text("CT types does not run.").wait_for()
    page.get_by_role("tabpanel").get_by_role("button", name="Start types", exact=True).click()
    terminal.get_by_text("Connected", exact=True).wait_for(state="attached")
    house.remove(vmid)


def test_a_screen_shows_what_the_vm_does_and_takes_keys(person: Person, house: Host) -> None:
    vmid = house.create_vm(name="shows")
    page = person.page
    person.open(f"/guests/{vmid}/console")
    page.get_by_role("tabpanel").get_by_role("button", name="Start shows", exact=True).click()
    person.until("the screen stays dark", lambda: page.evaluate(LIT) > 500)
    house.wait_screen(vmid, "No bootable device")
    page.get_by_role("button", name="Send keys").click()
    before = page.evaluate(LIT)
    page.get_by_role("menuitem", name="Ctrl+Alt+Delete").click()
    person.until("its firmware does not begin anew", lambda: page.evaluate(LIT) < before / 2)
    assert person.axe() == []
    house.remove(vmid)
