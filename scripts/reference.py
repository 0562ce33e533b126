"""The API reference as HTML, from the docstrings, by pdoc: `make docs` writes it into build/docs."""

from __future__ import annotations

import sys
from pathlib import Path

import pdoc

import zoo

MODULES = ("zoo", "zoo.engine", "zoo.cards", "zoo.errors", "zoo.testing")


def main() -> None:
    """Write one page a module into the folder named on the command line."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "build/docs")
    for name in zoo.__all__:  # the public names are loaded at their first use, and pdoc reads what is loaded
        getattr(zoo, name)
    pdoc.render.configure(docformat="markdown", show_source=False)
    pdoc.pdoc(*MODULES, output_directory=folder)
    print(f"{folder}/index.html")


if __name__ == "__main__":
    main()
