"""The documentation as a site that opens anywhere: pages that pandoc rendered, in the frame of Zensical.

Zensical gives navigation, search, light and dark, and the layout for narrow screens; all of it comes out of its Python package, so a
page asks no other host for anything. It renders Markdown with Python-Markdown. The notebooks are written for pandoc, which quarto uses
too: with the same renderer, headings have the same anchors here and in the published site. So each page goes in as finished HTML, and
`Finished` (an extension of Python-Markdown) hands it through and reports its headings for the table of contents.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from html import escape, unescape
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml
from markdown import Extension, Markdown
from markdown.extensions.toc import nest_toc_tokens
from markdown.postprocessors import Postprocessor
from markdown.preprocessors import Preprocessor
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name
from pygments.util import ClassNotFound

TOOLS = Path(__file__).resolve().parent
HEADING = re.compile(r'<h([2-4])\b[^>]*? id="([^"]+)"[^>]*>(.*?)</h\1>', re.S)
CODE = re.compile(r'<pre class="([\w-]+)"><code>(.*?)</code></pre>', re.S)
FORMULA = re.compile(r'<math display="block".*?</math>', re.S)
COLORS = HtmlFormatter(wrapcode=True)  # making one takes as long as coloring a short block
THEME = {
    "name": "material",
    "variant": "modern",
    "language": "en",
    "font": False,  # the fonts of the system: nothing is fetched
    "features": [
        "content.code.copy",
        "navigation.footer",
        "navigation.indexes",
        "navigation.top",
        "search.highlight",
        "toc.follow",
    ],
    "palette": [
        {
            "media": f"(prefers-color-scheme: {scheme})",
            "scheme": {"light": "default", "dark": "slate"}[scheme],
            "toggle": {"icon": f"lucide/{icon}", "name": f"{other} colors"},
        }
        for scheme, icon, other in (("light", "moon", "Dark"), ("dark", "sun", "Light"))
    ],
}


class Finished(Extension):
    "For Python-Markdown: a page that is HTML already stays as it is, and its headings make the table of contents."

    page = ""

    def extendMarkdown(self, md: Markdown) -> None:  # noqa: N802 (Python-Markdown's name)
        "Take the text before anything looks at it and give it back after everything did."
        md.preprocessors.register(_Take(self), "take", 10_000)
        md.postprocessors.register(_Give(self), "give", -10_000)
        self.md = md


class _Take(Preprocessor):
    def __init__(self, owner: Finished) -> None:
        self.owner = owner

    def run(self, lines: list[str]) -> list[str]:
        self.owner.page = "\n".join(lines)
        return []


class _Give(Postprocessor):
    def __init__(self, owner: Finished) -> None:
        self.owner = owner

    def run(self, text: str) -> str:
        vars(self.owner.md)["toc_tokens"] = contents(self.owner.page)
        return self.owner.page


def makeExtension(**options: Any) -> Finished:  # noqa: N802 (Python-Markdown looks for this name)
    "The door at which Python-Markdown knocks."
    return Finished(**options)


def contents(html: str) -> list[Any]:
    "The headings of a page as Python-Markdown hands them on: nested, with anchors."
    found = [(int(level), anchor, plain(inner)) for level, anchor, inner in HEADING.findall(html)]
    tokens: list[Any] = [
        {"level": n, "id": i, "name": t, "html": escape(t), "data-toc-label": ""} for n, i, t in found
    ]
    return list(nest_toc_tokens(tokens))


def plain(html: str) -> str:
    "Text of a heading without its elements."
    return unescape(re.sub(r"<[^>]+>", "", html.partition('<a class="headerlink"')[0])).strip()


def colored(m: re.Match[str]) -> str:
    "A code block of pandoc with the colors of the theme; the language may be one that nobody knows."
    try:
        lexer = get_lexer_by_name(m[1], stripnl=True)
    except ClassNotFound:
        return m[0]
    return str(highlight(unescape(m[2]), lexer, COLORS))


def finished(html: str, home: str, up: str) -> str:
    "HTML of pandoc as a page shows it: colors, boxes that scroll, anchors to click, links that stay on this site."
    html = CODE.sub(colored, html)
    html = FORMULA.sub(lambda m: f'<span class="formula">{m[0]}</span>', html)
    html = HEADING.sub(
        lambda m: m[0].replace(
            f"</h{m[1]}>",
            f'<a class="headerlink" href="#{m[2]}" title="Link to this place">#</a></h{m[1]}>',
        ),
        html,
    )
    return re.sub(rf'(href|src)="{re.escape(home)}', rf'\1="{up}', html)


@dataclass(frozen=True)
class Entry:
    "A page or a section of the sidebar."

    notebook: str = ""  # path below nbs/; empty for a section
    title: str = ""  # of a section; a page names itself
    contents: tuple[Entry, ...] = ()

    def pages(self) -> list[str]:
        "All notebooks at and below this entry, in order."
        return [self.notebook] * bool(self.notebook) + [p for e in self.contents for p in e.pages()]


def matching(pattern: str, notebooks: Iterable[str]) -> list[str]:
    "Notebooks that an entry names, itself or by a pattern (`capture/*`), in the order of their names."
    if "*" not in pattern:
        return [pattern]
    depth = pattern.count("/")
    suffixed = pattern if pattern.endswith(".ipynb") else f"{pattern}.ipynb"
    return [n for n in sorted(notebooks) if n.count("/") == depth and fnmatchcase(n, suffixed)]


def entries(node: Any, notebooks: Iterable[str]) -> tuple[Entry, ...]:
    "The contents of a sidebar in quarto's form: names, patterns, `href`, and sections of these."
    if isinstance(node, str):
        return tuple(Entry(n) for n in matching(node, notebooks))
    if isinstance(node, list):
        return tuple(e for n in node for e in entries(n, notebooks))
    if "section" in node:
        return (Entry(title=node["section"], contents=entries(node.get("contents", []), notebooks)),)
    return entries(node.get("contents", []), notebooks) + entries(node.get("href", []), notebooks)


def by_folder(notebooks: Iterable[str]) -> tuple[Entry, ...]:
    "Where no sidebar is written: the front page, then what lies at the top, then a section for each folder."
    top = sorted((n for n in notebooks if "/" not in n), key=lambda n: (n != "index.ipynb", n))
    folders = sorted({n.rpartition("/")[0] for n in notebooks if "/" in n})
    sections = tuple(
        Entry(title=f.replace("_", " ").capitalize(), contents=entries(f"{f}/*", notebooks)) for f in folders
    )
    return tuple(Entry(n) for n in top) + sections


def sidebar(path: Path, notebooks: Iterable[str]) -> tuple[Entry, ...]:
    "What the sidebar shows: as written in nbs/sidebar.yml, or by folder."
    tree = yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else None
    contents = ((tree or {}).get("website", {}).get("sidebar", {}) or {}).get("contents")
    return entries(contents, notebooks) if contents else by_folder(notebooks)


def navigation(listed: Iterable[Entry], names: dict[str, Path]) -> list[Any]:
    "The sidebar in Zensical's form; `names` gives the page of each notebook. What has no page is left out (the proof reports it)."
    found: list[Any] = []
    for entry in listed:
        if entry.notebook in names:
            found.append(names[entry.notebook].with_suffix(".md").as_posix())
        elif entry.contents:
            found.append({entry.title: navigation(entry.contents, names)})
    return found


def build(source: Path, site: Path, nav: list[Any], about: dict[str, str]) -> None:
    "Put the pages of `source` (HTML in files `.md`, pictures beside them) into the frame and move the site to `site`."
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        shutil.copytree(source, work / "pages")
        shutil.copy(TOOLS / "docsite.css", work / "pages")
        settings = about | {
            "docs_dir": "pages",
            "site_dir": "site",
            "use_directory_urls": False,  # pages are called as in the published site
            "nav": nav,
            "theme": THEME,
            "extra": {"generator": False},
            "extra_css": ["docsite.css"],
            "markdown_extensions": [Path(__file__).stem],
        }
        (work / "mkdocs.yml").write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
        done = subprocess.run(
            [sys.executable, "-m", "zensical", "build", "--strict", "-f", "mkdocs.yml"],
            cwd=work,
            env=os.environ | {"PYTHONPATH": str(TOOLS)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"docs: the site does not build: {done.stdout.strip()}")
        shutil.rmtree(site, ignore_errors=True)
        shutil.move(work / "site", site)


def digest(root: Path, names: Iterable[Path]) -> str:
    "One number for the names and contents of many files below `root`."
    total = hashlib.sha256()
    for name in sorted(names):
        total.update(f"{name.as_posix()}\0".encode() + hashlib.sha256((root / name).read_bytes()).digest())
    return total.hexdigest()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        "Say nothing: who looks at pages does not read this."

    def end_headers(self) -> None:
        self.send_header("Cache-Control", "no-cache")  # a page that was built anew is shown anew
        super().end_headers()


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        "A browser that went on to another page is no error."
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def server(site: Path, port: int = 0) -> ThreadingHTTPServer:
    "A server of this folder for this machine alone; port 0 takes a free one."
    return _Server(("127.0.0.1", port), partial(_Quiet, directory=str(site)))
