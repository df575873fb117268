"""Opens a report in headless Chromium, `python -m benchmarks.browser REPORT.html`: at three widths, light and dark, and printed.

Pictures and the print go to build/browser, to be looked at; any message of the browser's console is a failure. It needs Chromium
(Debian's package `chromium`); what can be seen without a browser, tests/test_report.py checks.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

from emamba.base.door import guarded
from emamba.base.errors import InputError, ToolFailed, ToolMissing

OUT = Path("build/browser")
WIDTHS = (500, 1280, 1920)
HEIGHT = 16000
BLINK = {"light": 1, "dark": 0}
"""Values of Blink's setting preferredColorScheme."""


def find() -> str:
    """The command of a Chromium."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    raise ToolMissing("there is no Chromium here: install it, e.g. apt-get install chromium")


def picture(browser: str, report: Path, width: int, scheme: str, out: Path, height: int = HEIGHT) -> None:
    """Writes a PNG of a report at a width in px, `light` or `dark`."""
    _open(browser, report, f"--screenshot={out}", f"--window-size={width},{height}",
          f"--blink-settings=preferredColorScheme={BLINK[scheme]}")


def main(report: Path) -> None:
    browser = find()
    if not report.is_file():
        raise InputError(f"{report} is no file: write it with emamba report")
    OUT.mkdir(parents=True, exist_ok=True)
    for width in WIDTHS:
        for scheme in BLINK:
            picture(browser, report, width, scheme, OUT / f"{report.stem}-{width}-{scheme}.png")
    _open(browser, report, f"--print-to-pdf={OUT}/{report.stem}.pdf")
    print(f"{OUT}: {', '.join(sorted(path.name for path in OUT.iterdir()))}")


def _open(browser: str, report: Path, *options: str) -> None:
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--enable-logging=stderr", *options,
               report.resolve().as_uri()]
    process = subprocess.run(command, capture_output=True, text=True)
    messages = re.findall(r".*:CONSOLE.*", process.stderr)
    if process.returncode or messages:
        raise ToolFailed(f"{options[0]}: {(messages or ['the browser ended with an error'])[0]}")


if __name__ == "__main__":
    sys.exit(guarded("browser", lambda: main(Path(sys.argv[1]) if len(sys.argv) == 2 else Path("report.html"))))
