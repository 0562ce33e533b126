"""The command line: `zoo`. Each command parses, calls the library, prints; nothing is computed here."""

from zoo.cli.app import main

__all__ = ["main"]
