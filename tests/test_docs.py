"""The documentation's own tools: the README is current, and a broken link, anchor or sidebar entry is found."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tools"))

import docs  # noqa: E402
import readme  # noqa: E402


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
