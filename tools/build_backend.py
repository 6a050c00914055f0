"""setuptools, plus one thing it cannot do: a Voilà template that is found after `pip install -e` too.

Jupyter and Voilà look for templates under `<prefix>/share/jupyter`. setuptools brings files there from a wheel (`data-files`)
but leaves them out of an editable install. Here both kinds of wheel get the template in their data part, from where every installer
copies it to the prefix. A real wheel also carries the notebooks of the dashboard and of the report; a checkout has them in
`nbs/`.
"""

from __future__ import annotations

import base64
import hashlib
import zipfile
from pathlib import Path

from setuptools import build_meta
from setuptools.build_meta import (
    build_sdist,
    get_requires_for_build_editable,
    get_requires_for_build_sdist,
    get_requires_for_build_wheel,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]

Config = dict[str, str | list[str] | None] | None
ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT / "trade_telemetry" / "share"
NOTEBOOKS = ("dashboard.ipynb", "accuracy_report.ipynb")  # run by commands, so they travel inside the package


def _shared_files() -> dict[str, bytes]:
    "Path below the prefix → content, for everything Jupyter has to find there."
    return {
        f"share/{p.relative_to(SHARED).as_posix()}": p.read_bytes()
        for p in sorted(SHARED.rglob("*"))
        if p.is_file()
    }


def _add(wheel: Path, files: dict[str, bytes]) -> None:
    "Put `files` into a finished wheel and into its list of contents."
    with zipfile.ZipFile(wheel) as old:
        parts = [(info, old.read(info)) for info in old.infolist()]
    record = next(info.filename for info, _ in parts if info.filename.endswith(".dist-info/RECORD"))
    lines = []
    for name, content in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        lines.append(f"{name},sha256={digest},{len(content)}\n")
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as new:
        for info, content in parts:
            new.writestr(info, content + "".join(lines).encode() if info.filename == record else content)
        for name, content in files.items():
            new.writestr(name, content)


def _finish(directory: str, name: str, extra: dict[str, bytes]) -> str:
    data = "-".join(name.split("-")[:2]) + ".data/data/"
    _add(Path(directory) / name, {data + path: content for path, content in _shared_files().items()} | extra)
    return name


def build_wheel(
    wheel_directory: str, config_settings: Config = None, metadata_directory: str | None = None
) -> str:
    "Build a wheel that brings templates and notebooks along."
    name = build_meta.build_wheel(wheel_directory, config_settings, metadata_directory)
    paths = [path for path in (ROOT / "nbs" / notebook for notebook in NOTEBOOKS) if path.exists()]
    return _finish(
        wheel_directory, name, {f"trade_telemetry/{path.name}": path.read_bytes() for path in paths}
    )


def build_editable(
    wheel_directory: str, config_settings: Config = None, metadata_directory: str | None = None
) -> str:
    "Build the wheel of an editable install, which brings a copy of the template along."
    name = build_meta.build_editable(wheel_directory, config_settings, metadata_directory)
    return _finish(wheel_directory, name, {})
