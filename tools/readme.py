"""Make README.md from nbs/index.ipynb: the front page of the site and that of the repository are one text.

python tools/readme.py            write README.md and the pictures it shows
python tools/readme.py --check    change nothing; exit 1 and say what is stale
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from docs import notebook_markdown
from execnb.nbio import read_nb

ROOT = Path(__file__).resolve().parents[1]
NBS = ROOT / "nbs"


def from_root(markdown: str) -> str:
    "Point links that are relative to `nbs/` at the same files from the top of the repository."

    def fix(m: re.Match[str]) -> str:
        path = (NBS / m[2]).resolve()
        return f"{m[1]}{path.relative_to(ROOT).as_posix()}" if path.is_relative_to(ROOT) else m[0]

    return re.sub(r"(\]\(|src=\"|href=\")(?![\w+.-]+:|#|/)([^)#\s\"]+)", fix, markdown)


def outside_code(markdown: str) -> str:
    "Apply `from_root` to everything but code blocks."
    parts = re.split(r"(^```.*?^```$)", markdown, flags=re.M | re.S)
    return "".join(p if p.startswith("```") else from_root(p) for p in parts)


def made() -> dict[Path, bytes]:
    "README.md and its pictures, as they should be."
    files: dict[Path, bytes] = {}

    def save(name: str, content: bytes) -> str:
        files[NBS / "images" / name] = content
        return f"images/{name}"

    cells = read_nb(NBS / "index.ipynb").cells
    text = notebook_markdown([c for c in cells if c.cell_type != "raw"], "index", save)
    note = "<!-- Made from nbs/index.ipynb by tools/readme.py: edit the notebook. -->\n\n"
    files[ROOT / "README.md"] = (note + outside_code(text)).encode()
    return files


def main() -> int:
    stale = [p for p, content in made().items() if not p.exists() or p.read_bytes() != content]
    names = ", ".join(p.relative_to(ROOT).as_posix() for p in stale)
    if "--check" in sys.argv[1:]:
        if stale:
            print(f"stale: {names}; run: python tools/readme.py")
        return bool(stale)
    for path, content in made().items():
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    print(f"written: {names}" if stale else "README.md is current")
    return 0


if __name__ == "__main__":
    sys.exit(main())
