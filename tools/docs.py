"""Build the documentation site, prove it, and show it.

nbdev prepares the notebooks for the site (`_proc/`; quarto renders exactly these where it is installed), pandoc renders each one, and
tools/docsite.py puts the pages into a frame with navigation and search: `_docs/`. Then all links are followed: those between pages,
those of the sidebar, and those of the Markdown files in the repository. Addresses on other hosts are not visited.

python tools/docs.py            build and prove; exit 1 names what is broken
python tools/docs.py --serve    the same, then show it on this machine (`./run docs`)
"""

from __future__ import annotations

import argparse
import base64
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from html import escape
from html.parser import HTMLParser
from operator import itemgetter
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import docsite
import docsymbols
import pypandoc
import yaml
from execnb.nbio import mk_cell, read_nb, write_nb
from nbdev.config import get_config
from nbdev.doclinks import NbdevLookup
from nbdev.serve import proc_nbs

ROOT = Path(__file__).resolve().parents[1]
SITE = ROOT / "_docs"
STAMP = SITE / ".inputs"  # what the site was built from
SIDEBAR = ROOT / "nbs" / "sidebar.yml"
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
        return '```{=html}\n<div class="cell-html">' + joined(data["text/html"]) + "</div>\n```"
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


def on_host(path: Path) -> str:
    "Address of a file of the repository."
    config = get_config()
    return f"{config.git_url}/blob/{config.branch}/{path.as_posix()}"


def to_repository(markdown: str, folder: Path) -> str:
    "Point links that leave `nbs/` for a file of the repository at that file on its host; the site does not hold it."

    def fix(m: re.Match[str]) -> str:
        path = (folder / unquote(m[1])).resolve()
        ours = path.is_relative_to(ROOT) and not path.is_relative_to(ROOT / "nbs") and path.exists()
        return f"]({on_host(path.relative_to(ROOT))}" if ours else m[0]

    return re.sub(r"\]\((?![\w+.-]+:)([^)#\s]+)", fix, markdown)


def module_of(notebook: Path) -> Path | None:
    "The module that a notebook exports, from the top of the repository."
    named = re.search(r"#\| *default_exp +([\w.]+)", notebook.read_text(encoding="utf-8"))
    return Path(get_config().lib_path.name, *named[1].split(".")).with_suffix(".py") if named else None


def asked(cell: Cell) -> str:
    "The symbol that a cell `show_doc(name)` of nbdev stands for, or nothing."
    found = re.search(r"^show_doc\((\w+)\)", joined(cell["source"]), re.M)
    return found[1] if found and cell["cell_type"] == "code" else ""


def shown_source(cell: Cell) -> list[str] | None:
    "The functions and classes of a cell that is exported with its source shown (nbdev marks those), or None."
    source = joined(cell["source"])
    marked = cell["cell_type"] == "code" and options(source).get("code-summary") == '"Exported source"'
    return list(docsymbols.definitions(source)) if marked else None


def in_order(cells: list[Cell], lines: dict[str, int]) -> list[Cell]:
    "Symbols as they follow each other in the module, each before its source; nbdev puts the last of a cell first."
    done: list[Cell] = []
    stretch: list[tuple[float, Cell]] = []  # symbols and sources with nothing between, by their place
    for cell in [*cells, {"cell_type": "markdown", "source": ""}]:
        name, source = asked(cell), shown_source(cell)
        if name:
            stretch.append((lines[name], cell))
        elif source is not None:
            before = max((place for place, _ in stretch), default=0)
            stretch.append((max((lines[n] + 0.5 for n in source), default=before), cell))
        else:
            done += [c for _, c in sorted(stretch, key=itemgetter(0))] + [cell]
            stretch = []
    return done[:-1]


def explain(cells: list[Cell], notebook: Path, link: Callable[[str], str]) -> list[Cell]:
    "Put the cells that nbdev adds for exported symbols in order and fill them in."
    if not any(map(asked, cells)):
        return cells
    module = module_of(notebook)
    if module is None or not (ROOT / module).exists():
        raise SystemExit(f"docs: the module of {notebook.name} is not there")
    defined = docsymbols.module(ROOT / module)[1]
    sourced = {n for c in cells for n in shown_source(c) or []}
    for cell in cells:
        if name := asked(cell):
            text = docsymbols.described(
                name, ROOT / module, on_host(module), link, with_source=name in sourced
            )
            data = {"text/markdown": text}
            cell["outputs"] = [{"output_type": "display_data", "data": data, "metadata": {}}]
    return in_order(cells, {name: node.lineno for name, node in defined.items()})


def below_title(notebook: Path) -> str:
    "What stands in the first cell of a notebook below title and promise; nbdev makes front matter of these and drops the rest."
    first = read_nb(notebook).cells[0]
    title, _, rest = joined(first["source"]).strip().partition("\n")
    if first["cell_type"] != "markdown" or not title.startswith("# "):
        return ""
    return re.sub(r"^> .*\n?", "", rest.strip(), count=1).strip()


def prepare(home: str) -> Path:
    "Make `_proc/`: nbdev's notebooks for the site, with symbols explained and without links to what is not there."
    shutil.rmtree(ROOT / "_proc", ignore_errors=True)
    get_config()["skip_procs"] = "exec_show_docs"  # docsymbols reads the modules instead
    prepared = Path(proc_nbs(n_workers=0, force=True))
    private = re.compile(rf"\[(`[^`]+`)\]\({re.escape(home)}[\w/.]+#(?:\w+\.)*_\w+\)")
    lookup = NbdevLookup()
    for path in prepared.rglob("*.ipynb"):
        notebook, original = read_nb(path), ROOT / "nbs" / path.relative_to(prepared)
        notebook["cells"] = explain(notebook.cells, original, lookup.linkify)
        if rest := below_title(original):
            notebook["cells"].insert(1, mk_cell(lookup.linkify(rest), "markdown", id="below-title"))
        for cell in notebook.cells:
            cell["source"] = private.sub(r"\1", joined(cell["source"]))
            if cell["cell_type"] == "markdown":
                cell["source"] = to_repository(cell["source"], original.parent)
            for output in cell.get("outputs", []):
                if asked(cell):
                    output["data"]["text/markdown"] = private.sub(r"\1", output["data"]["text/markdown"])
        write_nb(notebook, path)
    return prepared


def pandoc(markdown: str, name: str, *options: str) -> str:
    "HTML of a text; anything that pandoc warns about is an error."
    command = [str(pypandoc.get_pandoc_path()), "-t", "html5", "--fail-if-warnings", *options]
    done = subprocess.run(command, input=markdown, text=True, capture_output=True, check=False)
    if done.returncode:
        raise SystemExit(f"docs: {name} does not render: {done.stderr.strip()}")
    return done.stdout


def front_matter(cells: list[Cell]) -> dict[str, str]:
    "What nbdev writes above a page: its title, its promise, its file."
    head = joined(cells[0]["source"]) if cells and cells[0]["cell_type"] == "raw" else ""
    found = yaml.safe_load(head.strip().strip("-")) or {}
    return {key: str(value) for key, value in found.items()}


def page_name(cells: list[Cell], notebook: Path) -> Path:
    "Path of a page within the site: nbdev writes its name into the front matter."
    name = front_matter(cells).get("output-file")
    return notebook.with_name(name) if name else notebook.with_suffix(".html")


def opening(promise: str, notebook: Path) -> str:
    "The head of a page in Markdown: its promise, and where its sources are."
    sources = [Path("nbs") / notebook, module_of(ROOT / "nbs" / notebook)]
    links = " · ".join(f"[`{s.as_posix()}`]({on_host(s)})" for s in sources if s)
    lead = f"::: lead\n{promise}\n:::\n\n" if promise else ""
    return f"{lead}::: origin\n{links}\n:::\n\n"


def render_pages(prepared: Path, notebooks: list[Path], folder: Path, home: str) -> dict[Path, Path]:
    "Render every prepared notebook into `folder` for docsite; returns the page of each notebook."
    cells = {n: read_nb(prepared / n).cells for n in notebooks}
    names = {n: page_name(cells[n], n) for n in notebooks}
    there = {(prepared / n).resolve(): names[n] for n in notebooks}
    for n in notebooks:
        target, up = folder / names[n].with_suffix(".md"), "../" * (len(n.parts) - 1)
        pictures = target.with_suffix("")

        def save(name: str, content: bytes, pictures: Path = pictures) -> str:
            pictures.mkdir(parents=True, exist_ok=True)
            (pictures / name).write_bytes(content)
            return f"{pictures.name}/{name}"

        def to_page(m: re.Match[str], here: Path = n, up: str = up) -> str:
            page = there.get((prepared / here.parent / unquote(m[1])).resolve())
            return f"]({up}{page.as_posix()}" if page else m[0]

        meta = front_matter(cells[n])
        title, promise = meta.get("title", n.stem), meta.get("description", "")
        body = notebook_markdown([c for c in cells[n] if c["cell_type"] != "raw"], n.stem, save)
        text = re.sub(r"\]\((?!\w+:)([^)#\s]+\.ipynb)", to_page, opening(promise, n) + body)
        html = pandoc(
            text, str(n), "-f", "markdown+autolink_bare_uris", "--mathml", "--syntax-highlighting=none"
        )
        head = (
            f"---\n{yaml.safe_dump({'title': title, 'description': promise})}---\n<h1>{escape(title)}</h1>\n"
        )
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(head + docsite.finished(html, home, up or "./"), encoding="utf-8")
    shutil.copytree(prepared / "images", folder / "images", dirs_exist_ok=True)
    return names


def render_site(prepared: Path, home: str) -> dict[str, Page]:
    "Build `_docs/` from the prepared notebooks and return its pages by their path in the site."
    config = get_config()
    notebooks = sorted(p.relative_to(prepared) for p in prepared.rglob("*.ipynb"))
    with tempfile.TemporaryDirectory() as folder:
        names = render_pages(prepared, notebooks, Path(folder), home)
        by_notebook = {n.as_posix(): name for n, name in names.items()}
        nav = docsite.navigation(docsite.sidebar(SIDEBAR, by_notebook), by_notebook)
        about = {"site_name": config.title, "site_url": home, "site_description": config.description}
        docsite.build(Path(folder), SITE, nav, about)
    built = [name.as_posix() for name in names.values() if (SITE / name).exists()]
    return {name: Page((SITE / name).read_text(encoding="utf-8")) for name in built}


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
    listed = [n for entry in docsite.sidebar(SIDEBAR, notebooks) for n in entry.pages()]
    twice = {e for e in listed if listed.count(e) > 1}
    return (
        [f"sidebar.yml lists {e} twice" for e in sorted(twice)]
        + [f"sidebar.yml does not list {n}" for n in sorted(notebooks - set(listed))]
        + [f"sidebar.yml lists {e}, which is not there" for e in sorted(set(listed) - notebooks)]
    )


def inputs() -> str:
    "A number for everything that the site is made from."
    folders = {"nbs": "*", "trade_telemetry": "*.py", "tools": "docs*"}
    found = (p.relative_to(ROOT) for folder, names in folders.items() for p in (ROOT / folder).rglob(names))
    files = [p for p in found if p.is_file() and not any(part.startswith((".", "__")) for part in p.parts)]
    return docsite.digest(
        ROOT, files + [Path(name) for name in ("settings.ini", "pyproject.toml", *MARKDOWN)]
    )


def current() -> bool:
    "Whether `_docs/` was built and proved from the sources as they are now."
    return STAMP.exists() and STAMP.read_text(encoding="utf-8") == inputs()


def build() -> list[str]:
    "Build `_docs/` and return what is wrong with it."
    config = get_config()
    home = f"{config.doc_host}{config.doc_baseurl}/"
    prepared = prepare(home)
    notebooks = {p.relative_to(ROOT / "nbs").as_posix() for p in (ROOT / "nbs").rglob("[!._]*.ipynb")}
    site = render_site(prepared, home)
    bad = sidebar_gaps(notebooks) + broken(site, SITE, home)
    if len(site) != len(
        notebooks
    ):  # nbdev passes over everything below a folder whose name starts with a dot
        bad.append(
            f"{len(notebooks)} notebooks but {len(site)} pages; is the checkout below a hidden folder?"
        )
    texts = {m: (ROOT / m).read_text(encoding="utf-8") for m in MARKDOWN}
    files = {
        m: Page(pandoc(t, m, "-f", "gfm", "-s", "--metadata", f"pagetitle={m}")) for m, t in texts.items()
    }
    bad += broken(files, ROOT)
    links = sum(len(p.links) for p in (*site.values(), *files.values()))
    print(f"{len(site)} pages and {len(files)} Markdown files, {links} links, {len(bad)} broken")
    if not bad:
        STAMP.write_text(inputs(), encoding="utf-8")
    return bad


def arguments(given: list[str]) -> argparse.Namespace:
    "The command line."
    parser = argparse.ArgumentParser(
        prog="./run docs",
        description="The documentation as a site on this machine: one page per notebook, by wings, with search; nothing is fetched"
        " from elsewhere. Built in half a minute from nbs/ into _docs/, and only when something in it has changed.",
        epilog="examples:\n"
        "  ./run docs                build what has changed and show it; Ctrl-C ends it\n"
        "  ./run docs --port 8000    at an address that stays the same\n"
        "  ./run docs --build        build and prove only: exit 1 names every page and link that is broken\n"
        "The order of the pages is in nbs/sidebar.yml. The published site is made by quarto from the same notebooks\n"
        "(.github/workflows/ci.yml). Outputs are those saved in the notebooks; to change a page, change its notebook.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)  # `./run docs` says it
    parser.add_argument("--build", dest="serve", action="store_false", help="build and prove, do not serve")
    parser.add_argument("--port", type=int, default=0, metavar="N", help="default: any that is free")
    return parser.parse_args(given)


def show(port: int) -> None:
    "Serve `_docs/` on this machine until interrupted."
    try:
        server = docsite.server(SITE, port)
    except (OSError, OverflowError) as error:  # taken, not allowed, out of range
        raise SystemExit(f"docs: cannot listen on port {port}: {error}") from error
    with server, suppress(KeyboardInterrupt):
        print(f"http://127.0.0.1:{server.server_address[1]}/ (Ctrl-C ends it)", flush=True)
        server.serve_forever()


def main(given: list[str]) -> int:
    "Build where needed, say what is broken, and serve if asked."
    options = arguments(given)
    os.chdir(ROOT)
    bad = [] if options.serve and current() else build()
    print("\n".join(bad), end="\n" if bad else "")
    if options.serve:
        show(options.port)
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
