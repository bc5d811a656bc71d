"""What holds in the browser itself: the policy, the cookie, and answers of the API that are no pages."""

import pytest

from framework.browser import Person

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

# The debugger, by which this runs, may eval: what comes after a wait is as the page's own scripts are.
TRIES = """async (port) => {
    await new Promise((go) => setTimeout(go));
    const script = document.createElement("script");
    script.textContent = "window.broken = true";
    const style = document.createElement("style");
    style.textContent = "body { outline: 7px solid }";
    document.body.append(script, style);
    document.body.insertAdjacentHTML("beforeend", '<img src="x" onerror="window.broken = true">');
    const image = new Image();
    const loaded = new Promise((told) => { image.onload = () => told(true); image.onerror = () => told(false); });
    image.src = `https://127.0.0.1:${port}/icon.svg`;
    const tried = async (what) => { try { await what(); return "done"; } catch (error) { return error.name; } };
    return {
        cookie: document.cookie,
        eval: await tried(() => eval("1")),
        elsewhere: await tried(() => fetch(`https://127.0.0.1:${port}/`, { mode: "no-cors" })),
        image: await loaded,
        script: window.broken ?? false,
        outline: getComputedStyle(document.body).outlineWidth === "7px",
    };
}"""


def test_the_browser_holds_the_page_to_its_policy(person: Person) -> None:
    found = person.page.evaluate(TRIES, person.host.port)
    assert found == {
        "cookie": "",
        "eval": "EvalError",
        "elsewhere": "TypeError",
        "image": False,
        "script": False,
        "outline": False,
    }
    told = "\n".join(person.complaints)
    for directive in ("script-src 'self'", "style-src 'self'", "connect-src 'self'", "img-src 'self'"):
        assert directive in told
    person.complaints.clear()


def test_an_answer_of_the_api_is_no_page_of_this_host(person: Person) -> None:
    upid = person.host.post(f"/nodes/{person.host.node}/startall")
    person.host.wait(upid)
    log = f"{person.address}/api2/json/nodes/{person.host.node}/tasks/{upid}/log?download=1"
    with person.page.expect_download() as download:
        person.page.evaluate("address => { location.href = address; }", log)
    assert download.value.suggested_filename == "task.log"
    person.page.goto(f"{person.address}/api2/json/version")
    assert person.page.evaluate("[window.origin, document.contentType]") == ["null", "application/json"]
