"""Whether what pip has fetched is what was fetched when the pins were made: `hashes.txt` has a line
for every file, as `sha256sum` writes them.

    python -m tests.support.hashes REPORT           compare, as `make setup` does
    python -m tests.support.hashes REPORT --write   make hashes.txt of these files

Other bytes under a name that is listed stop the set-up. A file that is not listed (another
platform's, another index's build of torch) is only named. The comparison comes before anything of
the files is imported; a source distribution has been built by then."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tests.support.paths import ROOT

HASHES = ROOT / "hashes.txt"


def fetched(report: Path) -> dict[str, str]:
    """Return {file name: SHA-256} of what pip's report says it has installed: not of folders, nor
    of what pip built earlier and no longer knows the hash of."""
    found = {}
    for item in json.loads(report.read_text())["install"]:
        where = item["download_info"]
        if digest := where.get("archive_info", {}).get("hashes", {}).get("sha256"):
            found[unquote(urlsplit(where["url"]).path.rsplit("/", 1)[-1])] = digest
    return found


def listed() -> dict[str, str]:
    """Return {file name: SHA-256} of hashes.txt."""
    rows = (line.split() for line in HASHES.read_text().splitlines())
    return {name: digest for digest, name in rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("report", type=Path)
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    found = fetched(args.report)
    if args.write:
        HASHES.write_text("".join(f"{found[name]}  {name}\n" for name in sorted(found)))
        return
    known = listed()
    if other := [name for name in found if known.get(name, found[name]) != found[name]]:
        sys.exit(f"error: other bytes than hashes.txt lists: {', '.join(other)}")
    if new := [name for name in found if name not in known]:
        print(f"      not in hashes.txt, so not compared: {', '.join(new)}")


if __name__ == "__main__":
    main()
