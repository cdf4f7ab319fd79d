"""Every command of `geoagent-rl`."""
