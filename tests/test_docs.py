"""The documentation's own tools: the README is current, a broken link, anchor or sidebar entry is found, and the site can be used."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tools"))

import docs  # noqa: E402
import docsite  # noqa: E402
import docsymbols  # noqa: E402
import readme  # noqa: E402

CHROMIUM = next(
    filter(
        None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"))
    ),
    None,
)
needs_browser = pytest.mark.skipif(
    CHROMIUM is None and not os.environ.get("CI"), reason="no Chromium here; CI must have one"
)


def test_the_readme_is_the_front_notebook() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "readme.py"), "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_readme_opens_with_the_two_commands() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert 0 < text.index("./run demo") < text.index("./run test") < 2500


def test_the_sidebar_lists_every_notebook_once() -> None:
    notebooks = {p.relative_to(ROOT / "nbs").as_posix() for p in (ROOT / "nbs").rglob("[!._]*.ipynb")}
    assert docs.sidebar_gaps(notebooks) == []
    assert docs.sidebar_gaps(notebooks - {"index.ipynb"}) == [
        "sidebar.yml lists index.ipynb, which is not there"
    ]
    assert docs.sidebar_gaps(notebooks | {"99_new.ipynb"}) == ["sidebar.yml does not list 99_new.ipynb"]


@pytest.mark.parametrize(
    ("link", "finding"),
    [
        ("b.html#there", None),
        ("#here", None),
        ("https://elsewhere.example/x", None),
        ("https://home.example/p/b.html#there", None),
        ("c.html", "no file for c.html"),
        ("b.html#gone", "no anchor for b.html#gone"),
        ("#gone", "no anchor for #gone"),
        ("https://home.example/p/c.html", "no file for https://home.example/p/c.html"),
        ("../outside.html", "no file for ../outside.html"),
    ],
)
def test_a_link_that_leads_nowhere_is_found(tmp_path: Path, link: str, finding: str | None) -> None:
    texts = {"a.html": f'<p id="here"><a href="{link}">x</a></p>', "b.html": '<h2 id="there">y</h2>'}
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    (tmp_path.parent / "outside.html").write_text("")
    pages = {name: docs.Page(text) for name, text in texts.items()}
    expected = [f"a.html: {finding}"] if finding else []
    assert docs.broken(pages, tmp_path, "https://home.example/p/") == expected


def test_a_page_shows_what_its_cells_ask_for() -> None:
    saved: dict[str, bytes] = {}

    def save(name: str, content: bytes) -> str:
        saved[name] = content
        return f"images/{name}"

    def code(source: str, *outputs: dict[str, object]) -> dict[str, object]:
        return {"cell_type": "code", "id": "c", "source": source, "outputs": list(outputs)}

    result: dict[str, object] = {"output_type": "execute_result", "data": {"text/plain": "2"}}
    picture: dict[str, object] = {
        "output_type": "display_data",
        "data": {"image/png": "aGk=", "text/plain": "<Figure>"},
    }
    assert docs.cell_markdown(code("1 + 1", result), "p", save) == "```python\n1 + 1\n```\n\n```\n2\n```"
    assert docs.cell_markdown(code("#| echo: false\n1 + 1", picture), "p", save) == "![](images/p-c.png)"
    assert saved == {"p-c.png": b"hi"}
    assert docs.cell_markdown(code("#| hide\n1 + 1", result), "p", save) == ""
    failed: dict[str, object] = {"output_type": "error", "ename": "ValueError", "traceback": []}
    with pytest.raises(SystemExit, match="saved output of p-c is an error: ValueError"):
        docs.cell_markdown(code("1/0", failed), "p", save)


def test_links_of_the_front_page_are_moved_to_the_top_of_the_repository() -> None:
    text = (
        "[a](01_trace.ipynb#x) [b](https://e.example/) [c](#here) ![d](images/p.png) [e](../data/README.md)\n"
    )
    assert readme.outside_code(text) == (
        "[a](nbs/01_trace.ipynb#x) [b](https://e.example/) [c](#here) ![d](nbs/images/p.png) [e](data/README.md)\n"
    )
    assert readme.outside_code("```\n[a](b.ipynb)\n```\n") == "```\n[a](b.ipynb)\n```\n"


def test_links_from_a_page_to_the_repository_go_to_its_host() -> None:
    text = "[a](../LICENSE) [b](01_trace.ipynb) [c](../gone.md) [d](https://e.example/../LICENSE)"
    host = "https://github.com/trade-telemetry/trade_telemetry/blob/main"
    moved = docs.to_repository(text, ROOT / "nbs")
    assert moved == text.replace("../LICENSE)", f"{host}/LICENSE)", 1)


NOTEBOOKS = {
    "index.ipynb",
    "00_ground.ipynb",
    "capture/01_b.ipynb",
    "capture/00_a.ipynb",
    "capture/old/00_c.ipynb",
}


def test_the_sidebar_takes_names_patterns_and_sections_and_without_one_the_folders(tmp_path: Path) -> None:
    path = tmp_path / "sidebar.yml"
    names = {n: Path(n).with_name(Path(n).stem[3:] + ".html") for n in NOTEBOOKS - {"index.ipynb"}}
    names["index.ipynb"] = Path("index.html")
    by_folder = ["index.md", "ground.md", {"Capture": ["capture/a.md", "capture/b.md"]}]
    by_folder.append({"Capture/old": ["capture/old/c.md"]})
    assert docsite.navigation(docsite.sidebar(path, NOTEBOOKS), names) == by_folder
    path.write_text(
        "website: {sidebar: {contents: [index.ipynb, {section: Traces, contents: capture/*},"
        " {section: Rest, contents: [{href: 00_ground.ipynb}, gone.ipynb]}]}}"
    )
    listed = docsite.sidebar(path, NOTEBOOKS)
    written = ["index.md", {"Traces": ["capture/a.md", "capture/b.md"]}, {"Rest": ["ground.md"]}]
    assert docsite.navigation(listed, names) == written
    assert [p for e in listed for p in e.pages()][-1] == "gone.ipynb"  # which sidebar_gaps reports


MODULE = '''"A module."
from dataclasses import dataclass

@dataclass(frozen=True)
class Span:  # of time
    "From when to when."

    start: "datetime"  # the first instant
    hours: float = (
        1.0  # may be 0
    )
    _hidden: int = 0

    @property
    def end(self) -> "datetime":
        "The first instant after it."
        return self._later()

    def _later(self): "Not for users."

    def undocumented(self): return 1

class Maker:
    "Makes spans."

    def __init__(
        self,
        hours: float = 1.0,  # length
    ) -> None:
        self.hours = hours

def one(x: int) -> int: return x
def two(
    x: list[int],  # as many as you like
) -> int:  # how many
    """Count.

    All of `x`.
    """
    return len(x)
'''


def test_a_symbol_is_shown_as_it_is_written_with_comments_and_methods(tmp_path: Path) -> None:
    path = tmp_path / "spans.py"
    path.write_text(MODULE)

    def shown(name: str) -> str:
        return docsymbols.described(name, path, "https://h.example/spans.py", str.upper)

    span = shown("Span")
    assert "### Span\n\n```python\n@dataclass(frozen=True)\nclass Span:  # of time\n    start:" in span
    assert (
        '    start: "datetime"  # the first instant\n    hours: float = (\n        1.0  # may be 0\n    )\n```'
        in span
    )
    assert '#### Span.end\n\n```python\n@property\ndef end(self) -> "datetime":\n```\n\nTHE FIRST' in span
    assert "[source](https://h.example/spans.py#L5)" in span
    assert "[source](https://h.example/spans.py#L15)" in span
    assert not re.search("later|hidden|undocumented", span)
    assert shown("Maker").endswith(
        "```python\nclass Maker:\n\n    def __init__(\n        self,\n        hours: float = 1.0,  # length\n    ) -> None:\n```\n\nMAKES SPANS."
    )
    assert shown("one").endswith("```python\ndef one(x: int) -> int:\n```")
    assert shown("two").endswith(
        "```python\ndef two(\n    x: list[int],  # as many as you like\n) -> int:  # how many\n```\n\nCOUNT.\n\nALL OF `X`."
    )
    with pytest.raises(KeyError):
        shown("three")
    again = docsymbols.described("one", path, "https://h.example/spans.py", with_source=True)
    assert "### one" in again
    assert "```" not in again


def test_symbols_stand_in_the_order_of_the_module_each_before_its_source() -> None:
    def code(source: str) -> dict[str, object]:
        return {"cell_type": "code", "source": source}

    marked = '#| code-summary: "Exported source"\n'
    text: dict[str, object] = {"cell_type": "markdown", "source": "why"}
    ab, c, constant = (
        code(f"{marked}def a(): 1\ndef b(): 2"),
        code(f"{marked}def c(): 3"),
        code(f"{marked}D = 4"),
    )
    of_nbdev = [code("show_doc(b)"), ab, code("show_doc(a)"), constant, code("show_doc(c)"), c, text]
    found = docs.in_order(
        [*of_nbdev, code("show_doc(f)"), code("show_doc(e)")], {"a": 1, "b": 2, "c": 3, "e": 5, "f": 6}
    )
    names = [str(cell["source"]).removeprefix(marked) for cell in found]
    assert names[:4] == ["show_doc(a)", "show_doc(b)", "def a(): 1\ndef b(): 2", "D = 4"]
    assert names[4:] == ["show_doc(c)", "def c(): 3", "why", "show_doc(e)", "show_doc(f)"]


def test_what_stands_below_title_and_promise_is_not_lost(tmp_path: Path) -> None:
    def below(source: str) -> str:
        path = tmp_path / "a.ipynb"
        path.write_text(
            json.dumps(
                {"cells": [{"cell_type": "markdown", "source": source}], "nbformat": 4, "metadata": {}}
            )
        )
        return docs.below_title(path)

    assert below("# a\n\n> promise") == ""
    assert below("# a") == ""
    assert below("# a\n\n> promise\n\nMore `x`.\n\n> said") == "More `x`.\n\n> said"
    assert below("# a\n\nMore.") == "More."


def test_a_page_gets_colors_boxes_for_formulas_anchors_and_links_of_its_own_site() -> None:
    home = "https://home.example/p/"
    html = (
        f'<h2 id="x">A <code>b</code></h2><p><math display="block"><mi>x</mi></math></p><a href="{home}a.html#y">a</a>'
        '<pre class="python"><code>x = &lt;1&gt;</code></pre><pre class="nothing"><code>x</code></pre>'
    )
    done = docsite.finished(html, home, "../")
    assert '<span class="formula"><math display="block"' in done
    assert '<a href="../a.html#y">' in done
    assert '<div class="highlight"><pre>' in done
    assert "&lt;" in done
    assert '<pre class="nothing"><code>x</code></pre>' in done
    assert docsite.contents(done)[0]["name"] == "A b"
    assert docsite.contents(done)[0]["id"] == "x"


def test_a_port_that_is_taken_is_one_clear_line(tmp_path: Path) -> None:
    with (
        docsite.server(tmp_path) as server,
        pytest.raises(SystemExit, match=r"docs: cannot listen on port \d+: "),
    ):
        assert server.server_address[0] == "127.0.0.1"
        docs.show(server.server_address[1])


# ------------------------------------------------------------------------------------- in a real browser

CUT_OFF = """() => [...document.querySelectorAll("body *")].filter((element) => {
    const box = element.getBoundingClientRect();
    if (!box.width || !box.height || box.right <= innerWidth + 1 || !element.checkVisibility()) return false;
    for (let e = element; e; e = e.parentElement) {
        const style = getComputedStyle(e);
        if (["auto", "scroll"].includes(style.overflowX)) return false;
        if (style.position === "fixed") return false;
    }
    return true;
}).map((element) => element.outerHTML.slice(0, 150))"""
LEFT_IN_TEX = """() => [...document.querySelectorAll("article :not(code, pre, script, style)")].flatMap((element) =>
    [...element.childNodes].filter((n) => n.nodeType === Node.TEXT_NODE && !element.closest("pre, code, annotation"))
).map((n) => n.textContent).filter((text) => /\\\\[a-z]+|\\$[^$]+\\$/.test(text))"""


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    "Address of the site as the sources are now; the documentation gate has usually built it already."
    if not docs.current():
        done = subprocess.run(
            [sys.executable, str(ROOT / "tools" / "docs.py")], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
    with docsite.server(docs.SITE) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        yield browser
        browser.close()


@pytest.fixture
def complaints(site: str, page: Page) -> Iterator[list[str]]:
    "What a page must not do: ask another host, miss a file, write an error. Looked at after the test."
    found: list[str] = []
    page.context.on(
        "request", lambda r: r.url.startswith((site, "data:", "blob:")) or found.append(f"asks {r.url}")
    )
    page.context.on(  # what a page still asked for when the test left it is no failure
        "requestfailed", lambda r: r.failure == "net::ERR_ABORTED" or found.append(f"{r.failure} {r.url}")
    )
    page.context.on("response", lambda r: r.status < 400 or found.append(f"{r.status} {r.url}"))
    page.on("console", lambda m: m.type in {"error", "warning"} and found.append(m.text))
    page.on("pageerror", lambda error: found.append(str(error)))
    yield found
    assert found == []


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    context = chromium.new_context(color_scheme="light", viewport={"width": 1400, "height": 900})
    yield context.new_page()
    context.close()


def address(name: str) -> str:
    "Path of the page of a module or guide, in whatever folder it is."
    (found,) = docs.SITE.rglob(f"{name}.html")
    return found.relative_to(docs.SITE).as_posix()


@needs_browser
def test_every_page_is_in_the_sidebar_and_shows_where_it_comes_from(
    site: str, page: Page, complaints: list[str]
) -> None:
    page.goto(f"{site}index.html")
    links = page.locator(".md-sidebar--primary .md-nav__item a.md-nav__link").evaluate_all(
        "links => links.map(link => link.href.split('#')[0])"
    )
    pages = {p.relative_to(docs.SITE).as_posix() for p in docs.SITE.rglob("*.html")} - {"404.html"}
    assert {link.removeprefix(site) for link in links} == pages
    page.goto(site + address("writer"))
    host = "https://github.com/trade-telemetry/trade_telemetry/blob/main"
    assert page.locator(f".origin a[href^='{host}/nbs/'][href$='_writer.ipynb']").count() == 1
    assert page.locator(f".origin a[href^='{host}/trade_telemetry/'][href$='writer.py']").count() == 1
    lines = page.get_by_role("link", name="source", exact=True).evaluate_all("a => a.map(l => l.href)")
    assert len(lines) > 10
    assert all(re.fullmatch(rf"{host}/trade_telemetry/[\w/]+\.py#L\d+", line) for line in lines)


@needs_browser
def test_the_search_finds_a_symbol_and_leads_to_it(site: str, page: Page, complaints: list[str]) -> None:
    page.goto(site + address("numbers"), wait_until="networkidle")  # the index is there
    page.get_by_role("button", name="Search").click()
    page.get_by_role("combobox", name="Search").fill("TelemetryWriter")
    page.get_by_role("option", name="TelemetryWriter").first.click()
    expect(page).to_have_url(re.compile(re.escape(site + address("writer")) + r"(\?[^#]*)?#telemetrywriter$"))
    expect(page.locator("#telemetrywriter")).to_be_in_viewport()


@needs_browser
def test_dark_follows_the_system_and_the_button_and_stays(
    site: str, chromium: Browser, page: Page, complaints: list[str]
) -> None:
    background = "getComputedStyle(document.body).backgroundColor"
    page.goto(f"{site}index.html")
    light = page.evaluate(background)
    page.get_by_title("Dark colors").click()
    dark = page.evaluate(background)
    assert (
        sum(map(int, re.findall(r"\d+", dark)[:3])) < 150 < 600 < sum(map(int, re.findall(r"\d+", light)[:3]))
    )
    page.goto(site + address("numbers"))
    assert page.evaluate(background) == dark
    with chromium.new_context(color_scheme="dark") as context:
        other = context.new_page()
        other.goto(f"{site}index.html")
        assert other.evaluate(background) == dark


@needs_browser
def test_mathematics_is_drawn_as_mathematics(site: str, page: Page, complaints: list[str]) -> None:
    page.goto(site + address("significance"))
    fraction = page.locator("math mfrac").first
    above, below = (fraction.locator(f"> :nth-child({i})").bounding_box() for i in (1, 2))
    assert above is not None
    assert below is not None
    assert above["y"] + above["height"] <= below["y"] + 1
    assert above["height"] > 5


@needs_browser
def test_on_a_phone_nothing_is_cut_off_and_no_page_complains(
    site: str, page: Page, complaints: list[str]
) -> None:
    page.set_viewport_size({"width": 430, "height": 900})
    bad = {}
    for path in sorted(docs.SITE.rglob("*.html")):
        name = path.relative_to(docs.SITE).as_posix()
        if name == "404.html":  # its links are made for the published address
            continue
        page.goto(site + name)
        found = page.evaluate(CUT_OFF) + page.evaluate(LEFT_IN_TEX)
        if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
            found.append("the page is wider than the screen")
        if found:
            bad[name] = found
    assert bad == {}
    page.locator("label[for=__drawer].md-header__button").click()
    expect(page.locator(".md-sidebar--primary").get_by_text("Guides").first).to_be_in_viewport()


def test_the_table_of_rooms_in_the_architecture_guide_is_that_of_the_notebooks() -> None:
    guide = json.loads((ROOT / "nbs" / "guides" / "architecture.ipynb").read_text(encoding="utf-8"))
    (cell,) = [c for c in guide["cells"] if c["id"] == "rooms"]
    table = "".join(cell["outputs"][0]["data"]["text/markdown"])
    listed = dict(re.findall(r"^\| \[\w+\]\(\.\./([\w./]+)\) \| (.+) \|$", table, re.M))
    promises = {}
    for notebook in (ROOT / "nbs").rglob("[0-9][0-9]_*.ipynb"):
        title = "".join(json.loads(notebook.read_text(encoding="utf-8"))["cells"][0]["source"])
        promises[notebook.relative_to(ROOT / "nbs").as_posix()] = title.split("\n> ", 1)[1].strip()
    assert {place: text for place, text in listed.items() if place in promises} == promises
