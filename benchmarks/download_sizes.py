"""What pip downloads for each extra: packages and megabytes, at the versions of constraints.txt.

    python -m benchmarks.download_sizes

One `pip install --dry-run` resolves all extras together, from the indexes that pip is set up for.
The sizes are those of the files it would download. The public wheel of torch for Linux brings
CUDA; the index of CPU wheels has a small one: see TORCH_INDEX in the Makefile.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlparse
from urllib.request import Request, url2pathname, urlopen

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from virtualdepth.runs import text_table

ROOT = Path(__file__).parents[1]
OWN = "virtualdepth"

Installs = Mapping[str, Mapping[str, Any]]  # name -> entry of pip's report


def resolve(requirement: str, options: Sequence[str]) -> Installs:
    """Ask pip what it would install beside nothing."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.json")
        words = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run"]
        words += ["--ignore-installed", "--no-build-isolation", "--report", str(report)]
        subprocess.run([*words, *options, requirement], check=True, cwd=ROOT)
        installs = json.loads(report.read_text(encoding="utf-8"))["install"]
    return {canonicalize_name(entry["metadata"]["name"]): entry for entry in installs}


def closure(installs: Installs, name: str, extras: Sequence[str] = ()) -> set[str]:
    """Return the names that a package needs, with some of its extras; its own among them."""
    seen: set[tuple[str, str]] = set()
    waiting = [(name, extra) for extra in ("", *extras)]
    while waiting:
        pair = waiting.pop()
        if pair not in seen:
            seen.add(pair)
            waiting += _needed(installs, *pair)
    return {name for name, _ in seen}


def _needed(installs: Installs, name: str, extra: str) -> Iterator[tuple[str, str]]:
    for text in installs[name]["metadata"].get("requires_dist", []):
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
            needed = canonicalize_name(requirement.name)
            for its in ("", *requirement.extras):
                yield needed, its


def size(entry: Mapping[str, Any]) -> int:
    """Return the bytes of the file of a package, without downloading it."""
    url = entry["download_info"]["url"]
    parts = urlparse(url)
    if parts.scheme == "file":
        return Path(url2pathname(parts.path)).stat().st_size
    with urlopen(Request(url, method="HEAD"), timeout=60) as answer:
        return int(answer.headers["Content-Length"])


def main() -> None:
    """Print a row for each extra."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "options", nargs="*", help="more options of pip, after --, such as --index-url URL"
    )
    options = ["-c", "constraints.txt", *parser.parse_args().options]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    installs = resolve(".[all]", options)
    sizes = {name: size(entry) for name, entry in installs.items() if name != OWN}

    def row(label: str, names: set[str]) -> dict[str, Any]:
        names = names - {OWN}
        beside = sum(sizes[name] for name in names - torch)
        return {
            "extra": label,
            "packages": len(names),
            "MB": f"{sum(map(sizes.__getitem__, names)) / 1e6:.0f}",
            "MB_beside_torch": f"{beside / 1e6:.0f}",
        }

    torch = closure(installs, "torch")
    rows = [row("none", closure(installs, OWN))]
    rows += [
        row(extra, closure(installs, OWN, [extra]))
        for extra in project["optional-dependencies"]
        if extra != "dev"
    ]
    print(text_table(rows))
    version = installs["torch"]["metadata"]["version"]
    print(
        f"\ntorch {version} with what it needs: {sum(sizes[name] for name in torch) / 1e6:.0f} MB"
    )


if __name__ == "__main__":
    main()
