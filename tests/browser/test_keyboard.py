"""The page without a mouse: tree, a guest's tabs, a dialog, the palette and back, and where one is can be seen."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Locator, expect

from framework.browser import Person
from framework.host import Host

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

# An outline is drawn around what has the focus, or around the label that stands for it; a field has a border of the
# page's colour, which comes by a transition.
SEEN = """element => {
    const outlined = (one) => one !== null && getComputedStyle(one).outlineStyle !== "none";
    const bordered = (one) => {
        one.getAnimations().forEach((animation) => animation.finish());
        const probe = document.body.appendChild(document.createElement("i"));
        probe.style.color = "var(--input-bd-focus, var(--mantine-primary-color-filled))";
        const wanted = getComputedStyle(probe).color;
        probe.remove();
        return getComputedStyle(one).borderColor === wanted;
    };
    const hidden = element.matches("input") && getComputedStyle(element).opacity === "0";
    return hidden ? outlined(element.nextElementSibling) : outlined(element) || bordered(element);
}"""
FOCUSED = "element => element === document.activeElement"


@pytest.fixture
def container(house: Host) -> Iterator[int]:
    """A stopped container, without a network."""
    vmid = house.create(net0=None, hostname="by-keys")
    yield vmid
    house.remove(vmid)


def tab_to(person: Person, wanted: Locator) -> None:
    """Press Tab until something has the focus; all that had it on the way was to be seen."""
    page = person.page
    wanted.wait_for()
    for _ in range(80):
        page.keyboard.press("Tab")
        here = page.locator(":focus")
        assert here.count() == 0 or here.evaluate(SEEN), here.evaluate("element => element.outerHTML.slice(0, 300)")
        if wanted.evaluate(FOCUSED):
            return
    raise AssertionError(f"Tab does not lead to {wanted}")


def test_what_is_done_with_a_mouse_is_done_by_keys(person: Person, house: Host, container: int) -> None:
    page = person.page
    keys = page.keyboard
    # The tree: filtered, then gone through by arrows.
    tab_to(person, page.get_by_label("Filter the tree"))
    keys.type("by-keys")
    tree = page.get_by_role("tree")
    row = tree.get_by_role("treeitem", name=f"CT {container} by-keys, stopped")
    expect(tree.get_by_role("treeitem").filter(has_not_text="by-keys")).to_have_count(0)
    tab_to(person, tree)
    expect(tree).to_have_attribute("aria-activedescendant", str(row.get_attribute("id")))
    keys.press("Enter")
    expect(page.get_by_role("heading", level=1, name="by-keys")).to_be_focused()
    # The guest's tabs: arrows go along them, Enter opens one.
    tab_to(person, page.get_by_role("tab", name="Summary"))
    for _ in range(9):
        keys.press("ArrowRight")
        if page.get_by_role("tab", name="Options").evaluate(FOCUSED):
            break
    keys.press("Enter")
    page.wait_for_url(f"**/guests/{container}/options")
    # A dialog: left without a change, then with one.
    edit = page.get_by_role("button", name="Edit Start with the host")
    tab_to(person, edit)
    keys.press("Enter")
    dialog = page.get_by_role("dialog")
    field = dialog.get_by_role("switch", name="Start with the host")
    tab_to(person, field)
    keys.press("Escape")
    expect(edit).to_be_focused()
    keys.press("Enter")
    tab_to(person, field)
    keys.press("Space")
    tab_to(person, dialog.get_by_role("button", name="Save"))
    keys.press("Enter")
    expect(dialog).to_have_count(0)
    expect(edit).to_be_focused()
    assert house.get(house.path(container, "/config"))["onboot"] == 1
    # The palette: a guest is started from it, then another page opened.
    palette(person, "start by-keys")
    page.get_by_role("main").get_by_text("running", exact=True).first.wait_for()
    expect(edit).to_be_focused()
    palette(person, "overview")
    expect(page.get_by_role("heading", level=1, name="Overview")).to_be_focused()


def palette(person: Person, words: str) -> None:
    """Do the first that is found with these words."""
    person.page.keyboard.press("Control+k")
    search = person.page.get_by_role("dialog", name="Search")
    expect(search.get_by_role("textbox")).to_be_focused()
    person.page.keyboard.type(words)
    expect(search.get_by_role("button").first).to_contain_text(words.rpartition(" ")[2], ignore_case=True)
    person.page.keyboard.press("Enter")
    expect(search).to_have_count(0)
