"""The model: loading, prompts, rows, adapters, export, sizes."""
