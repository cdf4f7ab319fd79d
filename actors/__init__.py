"""The Ray actors and Serve deployments: engines, learner ranks, reward workers, cache."""
