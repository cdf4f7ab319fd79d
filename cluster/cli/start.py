"""The entry point `geoagent-rl`: loads the commands, which takes a second. Ctrl-C meanwhile shows
no trace."""

from __future__ import annotations

import sys


def main() -> None:
    """Run `geoagent-rl`."""
    try:
        from cluster.cli.main import main as run
    except KeyboardInterrupt:
        sys.exit(130)
    run()
