"""The run directory: records, checkpoints, locks, where a run starts."""
