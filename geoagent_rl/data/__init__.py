"""Data sets: manifests, importers, pools, drawing samples, images."""
