"""Other people's datasets -> the one manifest: files to rows (files.py), rows to samples
(convert.py), by kind.
"""
