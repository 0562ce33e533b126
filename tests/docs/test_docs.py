"""Every code block of the guides and of the README runs: in order, in one folder a page, as a reader would.

A ```python or ```bash block runs; anything else (```text, or no language) is what it prints, or commands that
install. Neighbouring python blocks are one program.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from docs_desk import ROOT, run

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs" / "guides").glob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path) -> Iterator[tuple[str, str]]:
    """(language, code) in order, neighbouring python blocks joined."""
    last, code = "", ""
    for language, text in FENCE.findall(page.read_text(encoding="utf-8")):
        if language not in ("python", "bash"):
            continue
        if language == last == "python":
            code += text
            continue
        if code:
            yield last, code
        last, code = language, text
    if code:
        yield last, code


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
@pytest.mark.timeout(900)
def test_the_code_on_this_page_runs(page: Path, desk: Path) -> None:
    found = list(blocks(page))
    assert found, f"{page.name} shows no code"
    for language, code in found:
        run(language, code, desk)


def test_a_block_that_fails_fails_its_page(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="python block failed"):
        run("python", "raise SystemExit(3)", tmp_path)
    with pytest.raises(AssertionError, match="bash block failed"):
        run("bash", "false; true", tmp_path)


def test_links_between_pages_lead_somewhere() -> None:
    for page in [*PAGES, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert "://" in target or (page.parent / target).exists(), f"{page.name} links to {target}"
