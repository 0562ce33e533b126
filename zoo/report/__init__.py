"""One self-contained HTML page of a selection, from the content of selection.json alone.

It lies below `zoo.choose`, though it shows what is chosen: it draws plain content and asks for nothing of how that
came about, so `Selection.report` calls down to it, and a page can be made again from a selection.json.
"""

from __future__ import annotations

from zoo.report.page import page, write
from zoo.report.pictures import thumbnail

__all__ = ["page", "thumbnail", "write"]
