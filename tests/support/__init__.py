"""What tests and benchmarks share. Scripts among these: `python -m tests.support.NAME`."""
