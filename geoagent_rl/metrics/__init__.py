"""The table of all metrics and how they are computed from a batch."""
