"""What the commands do on a cluster: train, evaluate, ablate, explain, demo."""
