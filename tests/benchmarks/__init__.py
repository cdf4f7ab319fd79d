"""Scripts that measure, run by hand. `cluster`, imported, gives every Ray of theirs a token."""

import cluster  # noqa: F401
