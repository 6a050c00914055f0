"""Prove the documentation without quarto: every page renders, every local link and anchor leads somewhere.

nbdev prepares the notebooks for the site (`_proc/`; quarto renders exactly these where it is installed), pandoc renders each one to
`_docs/`, and then all links are followed: those between pages, those of the site's sidebar, and those of the Markdown files in the
repository. Addresses on other hosts are not visited.

python tools/docs.py
"""

from __future__ import annotations

import base64
import inspect
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import pypandoc
import yaml
from execnb.nbio import read_nb, write_nb
from nbdev.config import get_config
from nbdev.serve import proc_nbs
from nbdev.showdoc import BasicMarkdownRenderer

ROOT = Path(__file__).resolve().parents[1]
SITE = ROOT / "_docs"
MARKDOWN = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "data/README.md"]
PICTURES = {"image/svg+xml": "svg", "image/png": "png", "image/jpeg": "jpg"}
Cell = dict[str, Any]
SavePicture = Callable[[str, bytes], str]  # (name without folder, content) → how the page refers to it


def joined(text: str | list[str]) -> str:
    "Notebook text, which may be a list of lines."
    return text if isinstance(text, str) else "".join(text)


def options(source: str) -> dict[str, str]:
    "The `#| key: value` lines of a code cell; a bare `#| word` reads as true."
    found = re.findall(r"^#\|\s*([\w-]+)(?::\s*(.*))?$", source, re.M)
    return {key: value.strip() or "true" for key, value in found}


def block(text: str, kind: str = "") -> str:
    "A code block whose fence is longer than any inside it."
    fence = "`" * max(3, 1 + max((len(m) for m in re.findall(r"`+", text)), default=0))
    return f"{fence}{kind}\n{text.rstrip()}\n{fence}"


def shown(output: Cell, name: str, save: SavePicture) -> str:
    "One output of a code cell as Markdown: the richest form that a page can hold."
    if output["output_type"] == "stream":
        return block(joined(output["text"]))
    if output["output_type"] == "error":
        raise SystemExit(f"docs: the saved output of {name} is an error: {output['ename']}")
    data = output["data"]
    if "text/markdown" in data:
        return joined(data["text/markdown"])
    for kind, suffix in PICTURES.items():
        if kind in data:
            text = joined(data[kind])
            content = text.encode() if suffix == "svg" else base64.b64decode(text)
            return f"![]({save(f'{name}.{suffix}', content)})"
    if "text/html" in data:
        return "```{=html}\n" + joined(data["text/html"]) + "\n```"
    return block(joined(data.get("text/plain", "")))


def cell_markdown(cell: Cell, prefix: str, save: SavePicture) -> str:
    "What a reader sees of one cell."
    source = joined(cell["source"])
    if cell["cell_type"] != "code":
        return source
    wanted = options(source)
    if wanted.get("include") == "false" or wanted.keys() & {"hide", "default_exp"}:
        return ""
    body = re.sub(r"^#\|.*\n?", "", source, flags=re.M).strip()
    parts = [block(body, "python")] if body and wanted.get("echo") != "false" else []
    if wanted.get("output") != "false":
        for i, output in enumerate(cell.get("outputs", [])):
            parts.append(shown(output, f"{prefix}-{cell['id']}" + (f"-{i}" if i else ""), save))
    return "\n\n".join(parts)


def notebook_markdown(cells: list[Cell], prefix: str, save: SavePicture) -> str:
    "A whole notebook as Markdown."
    parts = (cell_markdown(c, prefix, save) for c in cells)
    return "\n\n".join(p for p in parts if p) + "\n"


@dataclass
class Page(HTMLParser):
    "The anchors and links of one HTML page."

    html: str
    anchors: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self.feed(self.html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        "Note anchors and links of one element."
        for key, value in attrs:
            if value and key in {"id", "name"}:
                self.anchors.add(value)
            elif value and key in {"href", "src"}:
                self.links.append(value)


class WithMethods:
    "nbdev documents a class by its signature alone; a class of ours is exported whole, so its own methods belong below it."

    def __init__(self, sym: Any, name: str | None = None, title_level: int = 3) -> None:
        self.sym, self.title_level = sym, title_level

    def _repr_markdown_(self) -> str:
        parts = [self._one(self.sym, self.title_level)]
        members = vars(self.sym) if inspect.isclass(self.sym) else {}
        for name, member in members.items():
            function = getattr(member, "__func__", member)
            if inspect.isfunction(function) and function.__doc__ and not name.startswith("__"):
                parts.append(self._one(getattr(self.sym, name), self.title_level + 1))
        return "\n\n".join(parts)

    @staticmethod
    def _one(symbol: Any, level: int) -> str:
        try:
            return str(BasicMarkdownRenderer(symbol, title_level=level)._repr_markdown_())
        except NameError:  # an annotation whose module is imported for type checkers only: show it as written
            head = f"{'#' * level} {symbol.__qualname__}"
            return f"{head}\n\n{block(symbol.__name__ + str(inspect.signature(symbol)), 'python')}\n\n*{symbol.__doc__}*"


def to_repository(markdown: str, folder: Path) -> str:
    "Point links that leave `nbs/` for a file of the repository at that file on its host; the site does not hold it."
    config = get_config()

    def fix(m: re.Match[str]) -> str:
        path = (folder / unquote(m[1])).resolve()
        ours = path.is_relative_to(ROOT) and not path.is_relative_to(ROOT / "nbs") and path.exists()
        return (
            f"]({config.git_url}/blob/{config.branch}/{path.relative_to(ROOT).as_posix()}" if ours else m[0]
        )

    return re.sub(r"\]\((?![\w+.-]+:)([^)#\s]+)", fix, markdown)


def prepare(home: str) -> Path:
    "Make `_proc/`: nbdev's notebooks for the site, with methods documented and without links to what is not there."
    shutil.rmtree(ROOT / "_proc", ignore_errors=True)
    get_config()["renderer"] = f"{Path(__file__).stem}.{WithMethods.__name__}"
    prepared = Path(proc_nbs(n_workers=0, force=True))
    private = re.compile(rf"\[(`[^`]+`)\]\({re.escape(home)}[\w/.]+#_\w+\)")
    for path in prepared.rglob("*.ipynb"):
        notebook, folder = read_nb(path), (ROOT / "nbs" / path.relative_to(prepared)).parent
        for cell in notebook.cells:
            cell["source"] = private.sub(r"\1", joined(cell["source"]))
            if cell["cell_type"] == "markdown":
                cell["source"] = to_repository(cell["source"], folder)
        write_nb(notebook, path)
    return prepared


def pandoc(markdown: str, reader: str, name: str, *, math: bool = True) -> str:
    "HTML of a page; anything that pandoc warns about is an error."
    command = [
        str(pypandoc.get_pandoc_path()),
        "-f",
        reader,
        "-t",
        "html5",
        "-s",
        "--toc",
        "--fail-if-warnings",
    ]
    command += ["--metadata", f"pagetitle={name}"] + (["--mathml"] if math else [])
    done = subprocess.run(command, input=markdown, text=True, capture_output=True, check=False)
    if done.returncode:
        raise SystemExit(f"docs: {name} does not render: {done.stderr.strip()}")
    return done.stdout


def page_name(cells: list[Cell], notebook: Path) -> Path:
    "Path of a page within the site: nbdev writes its name into the front matter."
    head = joined(cells[0]["source"]) if cells and cells[0]["cell_type"] == "raw" else ""
    found = re.search(r"^output-file:\s*(\S+)$", head, re.M)
    return notebook.with_name(found[1]) if found else notebook.with_suffix(".html")


def render_site(prepared: Path) -> dict[str, Page]:
    "Render every prepared notebook into `_docs/` and return the pages by their path in the site."
    shutil.rmtree(SITE, ignore_errors=True)
    notebooks = sorted(p.relative_to(prepared) for p in prepared.rglob("*.ipynb"))
    cells = {n: read_nb(prepared / n).cells for n in notebooks}
    names = {n: page_name(cells[n], n) for n in notebooks}
    titles = {(prepared / n).resolve(): names[n] for n in notebooks}
    pages = {}
    for n in notebooks:
        target = SITE / names[n]
        pictures = target.with_suffix("")

        def save(name: str, content: bytes, folder: Path = pictures) -> str:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
            return f"{folder.name}/{name}"

        def to_page(m: re.Match[str], here: Path = n) -> str:
            there = titles.get((prepared / here.parent / unquote(m[1])).resolve())
            return f"]({'../' * (len(here.parts) - 1)}{there.as_posix()}" if there else m[0]

        text = notebook_markdown(cells[n], n.stem, save)
        text = re.sub(r"\]\((?!\w+:)([^)#\s]+\.ipynb)", to_page, text)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(pandoc(text, "markdown+autolink_bare_uris", str(n)), encoding="utf-8")
        pages[names[n].as_posix()] = Page(target.read_text(encoding="utf-8"))
    for picture in (prepared / "images").glob("*"):
        (SITE / "images").mkdir(exist_ok=True)
        shutil.copy(picture, SITE / "images")
    return pages


def broken(pages: dict[str, Page], root: Path, home: str = "") -> list[str]:
    "Every link of `pages` (paths below `root`) that leads nowhere; `home` is the address at which `root` is published."
    bad = []
    for name, page in pages.items():
        for link in page.links:
            own = bool(home) and link.startswith(home)
            url = urlparse(link.removeprefix(home) if own else link)
            if url.scheme or url.netloc:
                continue
            start = root if own else (root / name).parent
            there = (start / unquote(url.path)).resolve() if url.path else (root / name).resolve()
            key = there.relative_to(root).as_posix() if there.is_relative_to(root) else ""
            if not key or not there.exists():
                bad.append(f"{name}: no file for {link}")
            elif url.fragment and key in pages and unquote(url.fragment) not in pages[key].anchors:
                bad.append(f"{name}: no anchor for {link}")
    return bad


def sidebar_gaps(notebooks: set[str]) -> list[str]:
    "Notebooks that the sidebar does not list, and entries that have no notebook."

    def entries(node: Any) -> list[str]:
        if isinstance(node, str):
            return [node]
        if isinstance(node, list):
            return [e for n in node for e in entries(n)]
        return entries(node.get("contents", [])) + entries(node.get("href", []))

    tree = yaml.safe_load((ROOT / "nbs" / "sidebar.yml").read_text(encoding="utf-8"))
    listed = entries(tree["website"]["sidebar"]["contents"])
    twice = {e for e in listed if listed.count(e) > 1}
    return (
        [f"sidebar.yml lists {e} twice" for e in sorted(twice)]
        + [f"sidebar.yml does not list {n}" for n in sorted(notebooks - set(listed))]
        + [f"sidebar.yml lists {e}, which is not there" for e in sorted(set(listed) - notebooks)]
    )


def main() -> int:
    os.chdir(ROOT)
    config = get_config()
    home = f"{config.doc_host}{config.doc_baseurl}/"
    prepared = prepare(home)
    notebooks = {p.relative_to(ROOT / "nbs").as_posix() for p in (ROOT / "nbs").rglob("[!._]*.ipynb")}
    site = render_site(prepared)
    bad = sidebar_gaps(notebooks) + broken(site, SITE, home)
    if len(site) != len(
        notebooks
    ):  # nbdev passes over everything below a folder whose name starts with a dot
        bad.append(
            f"{len(notebooks)} notebooks but {len(site)} pages; is the checkout below a hidden folder?"
        )
    texts = {m: (ROOT / m).read_text(encoding="utf-8") for m in MARKDOWN}
    files = {m: Page(pandoc(t, "gfm", m, math=False)) for m, t in texts.items()}
    bad += broken(files, ROOT)
    links = sum(len(p.links) for p in (*site.values(), *files.values()))
    print(f"{len(site)} pages and {len(files)} Markdown files, {links} links, {len(bad)} broken")
    print("\n".join(bad), end="\n" if bad else "")
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())
