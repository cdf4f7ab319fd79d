"""One job of an ablation, alike as a process of its own and as a Ray job:

    python -m cluster.jobs.ablate_job OUT SEED ROW...

The work is in ablate_rows.py, whose libraries load for seconds: stopped meanwhile, it ends without
a trace."""

from __future__ import annotations

import sys
from pathlib import Path

from geoagent_rl.terminal import errors_in_one_line


def main() -> None:
    """Run the rows that the command line names."""
    out, seed, *rows = sys.argv[1:]
    with errors_in_one_line():
        from cluster.jobs.ablate_rows import run_rows

        run_rows(Path(out), int(seed), rows)


if __name__ == "__main__":
    main()
