"""Lighthouse on the built site: its four scores, and what a first visit on a slow phone costs.

Run ``python benchmarks/lighthouse.py [--site _build/html] [--pages PAGE ...] [--out FILE]`` after ``make site``. Needs
node, npm and Chromium; Lighthouse itself is installed into a temporary folder, or into ``--tool`` to keep it. The
preset is the mobile one: a phone of the middle class on 4G, simulated. Pages are served with gzip, as site hosts do.
"""

import argparse
import contextlib
import functools
import gzip
import http.server
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

LIGHTHOUSE = "lighthouse@12.2.3"
PAGES = [
    "book/index.html",
    "notebooks/02-pruning-weights.html",
    "notebooks/05-quantization.html",
    "notebooks/14-mobilenet.html",
    "book/ledger.html",
    "book/glossary.html",
]
CATEGORIES = ("performance", "accessibility", "best-practices", "seo")
AUDITS = {
    "LCP s": ("largest-contentful-paint", 1e-3),
    "CLS": ("cumulative-layout-shift", 1),
    "TBT ms": ("total-blocking-time", 1),
    "kB sent": ("total-byte-weight", 1e-3),
}
COMPRESSED = (".html", ".css", ".js", ".mjs", ".json", ".svg")


class Gzipped(http.server.SimpleHTTPRequestHandler):
    """Files of a folder, text compressed."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path))
        if path.suffix not in COMPRESSED or not path.is_file():
            return super().do_GET()
        content = gzip.compress(path.read_bytes(), 6)
        self.send_response(200)
        self.send_header("Content-Type", self.guess_type(str(path)))
        self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args) -> None:
        pass


@contextlib.contextmanager
def served(site: Path):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Gzipped, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def installed(tool: Path) -> Path:
    """Lighthouse in this folder; no browser is downloaded for it."""
    program = tool / "node_modules" / ".bin" / "lighthouse"
    if not program.exists():
        command = ["npm", "install", "--silent", "--no-fund", "--no-audit", "--prefix", str(tool), LIGHTHOUSE]
        subprocess.run(command, check=True, env=os.environ | {"PUPPETEER_SKIP_DOWNLOAD": "1"})
    return program


def measure(program: Path, url: str) -> dict:
    """One run: the report's scores from 0 to 100 and the audits of AUDITS."""
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        sys.exit("lighthouse.py: no Chromium; on Debian: apt-get install chromium")
    command = [program, url, "--quiet", "--output=json", f"--only-categories={','.join(CATEGORIES)}"]
    command += ["--chrome-flags=--headless=new --no-sandbox --disable-gpu --disable-background-networking"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env=os.environ | {"CHROME_PATH": chromium}
    )
    report = json.loads(done.stdout)
    row = {name: round(100 * report["categories"][name]["score"]) for name in CATEGORIES}
    row |= {name: report["audits"][audit]["numericValue"] * scale for name, (audit, scale) in AUDITS.items()}
    failed = [
        audit["id"]
        for category in CATEGORIES[1:]
        for audit in (
            report["audits"][each["id"]] for each in report["categories"][category]["auditRefs"] if each["weight"]
        )
        if audit["score"] is not None and audit["score"] < 1
    ]
    return row | {"failed": failed, "machine": report["environment"]["benchmarkIndex"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--site", type=Path, default=Path("_build/html"))
    parser.add_argument("--pages", nargs="+", default=PAGES)
    parser.add_argument("--tool", type=Path, help="folder of an installed Lighthouse, or where to install it")
    parser.add_argument("--out", type=Path, help="JSON file for the rows")
    arguments = parser.parse_args()
    rows = {}
    with contextlib.ExitStack() as stack:
        tool = arguments.tool or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        program = installed(tool.resolve())
        address = stack.enter_context(served(arguments.site))
        print(f"{'page':36}", *(f"{name:>14}" for name in (*CATEGORIES, *AUDITS)))
        for page in arguments.pages:
            rows[page] = row = measure(program, f"{address}/{page}")
            numbers = [f"{row[name]:14d}" for name in CATEGORIES] + [f"{row[name]:14.2f}" for name in AUDITS]
            print(f"{page:36}", *numbers, *row["failed"], flush=True)
    if arguments.out:
        arguments.out.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
