"""The method itself: advantages, rows and shares of ranks, log-probabilities, loss, schedules."""
