"""Read completions: levels, stages, hedges, answer forms."""
