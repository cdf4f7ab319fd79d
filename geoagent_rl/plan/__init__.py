"""What a configuration will need: memory, time, GPUs. Pure arithmetic."""
