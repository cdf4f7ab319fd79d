"""Locate photographs with a trained policy: folder, server, page."""
