"""The page that shows runs, and what lets the same curves appear in the Ray dashboard and in
Grafana.
"""
