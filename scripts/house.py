"""House rules that a linter does not know: file and function lengths, and that adapters/ is no package."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LONGEST_FILE, LONGEST_FUNCTION = 400, 45


def problems(path: Path) -> list[str]:
    """What breaks a rule in one file."""
    text = path.read_text(encoding="utf-8")
    name = path.relative_to(ROOT)
    found = [f"{name}: {n} lines, {LONGEST_FILE} at most"] if (n := text.count("\n")) > LONGEST_FILE else []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None:
            length = node.end_lineno - node.lineno + 1
            if length > LONGEST_FUNCTION:
                found.append(f"{name}:{node.lineno} {node.name}: {length} lines, {LONGEST_FUNCTION} at most")
    return found


def main() -> int:
    """Print what is wrong; exit 1 if anything is."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "*.py"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    files = [ROOT / line for line in listed.stdout.split()]
    found = [problem for path in files if path.exists() for problem in problems(path)]
    if (ROOT / "adapters" / "__init__.py").exists():
        found.append("adapters/__init__.py: adapters/ is a source root, never a package")
    print("\n".join(found) or f"house rules hold in {len(files)} files")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
