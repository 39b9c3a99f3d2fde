"""The pages: every link leads somewhere, and every command that they print exists."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import typer

from hsnet_trt.cli.main import app

ROOT = Path(__file__).parents[1]
STAGES = [path.parent for path in ROOT.glob("*/__init__.py")]
FOLDERS = [ROOT / "docs", *STAGES]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md")),
    *sorted(page for folder in FOLDERS for page in folder.rglob("*.md")),
]
VERBS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")

_FENCE = re.compile(r"^ *```[^\n]*\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(\s*([^()\s]+(?:\([^()]*\)[^()\s]*)?)\s*\)")


@cache
def _anchors(page: Path) -> set[str]:
    """Of a page's headings, as GitHub makes them."""
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    plain = (re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", title).lower() for title in titles)
    return {re.sub(r"[^\w\- ]", "", title).strip().replace(" ", "-") for title in plain}


def _commands(page: Path) -> Iterator[str]:
    """What stands in code, a command line at a time, without comments."""
    text = page.read_text(encoding="utf-8")
    for block in _FENCE.findall(text):
        for line in re.sub(r"\\\n", " ", block).splitlines():
            yield line.partition(" #")[0]
    yield from (" ".join(span.split()) for span in re.findall(r"`([^`]+)`", _FENCE.sub("", text)))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    for link in _LINK.findall(text):
        if re.match(r"[a-z]+:", link):
            continue
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), f"{page.name}: {link}"
        if anchor:
            assert anchor in _anchors(target), f"{page.name}: {link}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_exist(page: Path) -> None:
    for line in _commands(page):
        for verb, rest in re.findall(r"hsnet-trt ([a-z]\S*)(.*)", line):
            assert verb in VERBS, f"{page.name}: {line}"
            known = {
                name for one in VERBS[verb].params for name in (*one.opts, *one.secondary_opts)
            }
            for option in re.findall(r"(?<!\S)--[a-z][a-z0-9-]*", rest.partition(" && ")[0]):
                assert option in {*known, "--help"}, f"{page.name}: {line}"
        for module in re.findall(r"python3? -m (hsnet_trt[.\w]+)", line):
            assert importlib.util.find_spec(module), f"{page.name}: {line}"
        for target in re.findall(r"(?:^|\s)make ([a-z][a-z-]*)(?=\s|$)", line):
            assert re.search(rf"^{target}:", MAKEFILE, re.MULTILINE), f"{page.name}: {line}"
