"""The parts of the reward, each a file, and the scorer over them."""
