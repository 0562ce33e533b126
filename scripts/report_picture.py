"""docs/pictures/report.png from a report: its top at 1,280 pixels, light, in 256 colours, so that it stays small.

    make demo
    python scripts/report_picture.py runs/demo/report.html docs/pictures/report.png

Needs a Chromium or Chrome, and playwright.
"""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
WIDTH, HEIGHT, COLOURS, MOST_BYTES = 1280, 1560, 256, 300_000


def main() -> int:
    """Write the picture."""
    report, target = Path(sys.argv[1]).resolve(), Path(sys.argv[2])
    browser_path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser_path is None:
        print(f"none of {', '.join(BROWSERS)} is on the PATH", file=sys.stderr)
        return 1
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=browser_path, args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
        page.goto(report.as_uri())
        page.wait_for_selector("html[data-chart=drawn]")
        shot = page.screenshot()
        browser.close()
    target.parent.mkdir(parents=True, exist_ok=True)
    Image.open(io.BytesIO(shot)).convert("RGB").quantize(COLOURS).save(target, optimize=True)
    size = target.stat().st_size
    print(f"{target}: {size / 1000:.0f} kB")
    return int(size > MOST_BYTES)


if __name__ == "__main__":
    sys.exit(main())
