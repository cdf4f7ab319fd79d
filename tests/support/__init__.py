"""What tests and benchmarks share. Scripts among these: `python -m tests.support.NAME`; `cluster`,
imported, gives a Ray of theirs a token."""

import cluster  # noqa: F401
