"""Looks at a page in a real browser, as wide as a phone and without any network."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

# A window cannot be narrower than 500 px, a frame in it can.
_FRAME = """<!doctype html><iframe width="{width}" height="800" style="border: 0" srcdoc="{page}"></iframe><script>
addEventListener("load", () => {{ const seen = document.querySelector("iframe"), page = seen.contentDocument;
document.title = JSON.stringify({{
    wide: page.documentElement.scrollWidth - page.documentElement.clientWidth,
    broken: [...page.images].filter(i => !i.naturalWidth).length,
    images: page.images.length,
    requests: seen.contentWindow.performance.getEntriesByType("resource").map(r => r.name).filter(n => !n.startsWith("data:")),
}}) }})</script>"""


def look(page: Path, width_px: int = 390) -> dict[str, Any]:
    """How many px the page is too ``wide``, its ``images``, how many are ``broken``, and the ``requests`` it made for other files."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed: the page was not looked at in a browser")
    frame = page.with_name(f"{page.stem}.looked_at.html")
    frame.write_text(_FRAME.format(width=width_px, page=html.escape(page.read_text(encoding="utf-8"))), encoding="utf-8")
    profile = page.with_name(f"{page.stem}.profile")
    command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", f"--user-data-dir={profile}", frame.as_uri()]
    dom = subprocess.run(command, capture_output=True, text=True, check=True, timeout=250).stdout
    title = re.search(r"<title>(.*?)</title>", dom)
    assert title is not None
    seen: dict[str, Any] = json.loads(html.unescape(title[1]))
    return seen
