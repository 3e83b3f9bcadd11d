"""A browser without a window that opens a page, runs its scripts, and returns what then stands in it."""

import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

OFFLINE = ("disable-background-networking", "disable-component-update", "disable-sync", "disable-quic", "no-first-run")


def opened(page: Path) -> str:
    """Return the document of a page as HTML, after its scripts have run."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert browser, "found no chromium; install it (Debian: apt-get install chromium)"
    with TemporaryDirectory(prefix="browser-") as profile:
        # A container's root user has no sandbox. Time is virtual, so that waiting in a script costs none.
        options = ["headless", "no-sandbox", "disable-gpu", *OFFLINE, f"user-data-dir={profile}", "dump-dom"]
        options.append("virtual-time-budget=60000")
        command = [browser, *(f"--{option}" for option in options), page.absolute().as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout
