"""Pages in headless Chromium: what a script that is added to a copy of them finds out."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

_WATCH = """<script>
window.problems = [];
addEventListener("error", (event) => problems.push(String(event.message)));
addEventListener("unhandledrejection", (event) => problems.push(String(event.reason)));
for (const kind of ["error", "warn"]) console[kind] = (...all) => problems.push(all.join(" "));
</script>"""
_ASK = """<script>
addEventListener("load", () => {
  let found;
  try { found = (() => { %s })(); } catch (error) { problems.push(String(error)); }
  document.documentElement.dataset.found = JSON.stringify({found, problems});
});
</script>"""


def ask(page: Path, script: str, folder: Path, *, width: int = 1280) -> Any:
    """What ``script``, the body of a function, returns in a window of that ``width``.

    Raises:
        AssertionError: the page made an error or a warning.
    """
    assert BROWSER is not None
    text = page.read_text(encoding="utf-8")
    copy = page.with_name(f"asked-{width}.html")
    copy.write_text(
        text.replace("<head>", f"<head>{_WATCH}", 1).replace("</body>", f"{_ASK % script}</body>")
    )
    options = [
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        f"--window-size={width},900",
        "--hide-scrollbars",
    ]
    options += ["--enable-logging=stderr", "--v=0", f"--user-data-dir={folder / 'profile'}", "--dump-dom"]
    done = subprocess.run([BROWSER, *options, copy.as_uri()], capture_output=True, text=True, timeout=120)
    copy.unlink()
    assert not re.search(r"CONSOLE.*", done.stderr), re.findall(r"CONSOLE.*", done.stderr)
    answer = re.search(r'data-found="([^"]*)"', done.stdout)
    assert answer is not None, done.stderr[-2000:]
    found = json.loads(html.unescape(answer.group(1)))
    assert found["problems"] == []
    return found["found"]
