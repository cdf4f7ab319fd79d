"""Writes what is made of the metric table: docs/metrics.md, the Grafana dashboard and
prometheus.yml beside this file.

`python -m cluster.monitor.generate` after the table or the panels change; a test compares.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from cluster.monitor.panels import Panel, panels
from cluster.monitor.runs import BUILT_IN
from geoagent_rl.files import write_text
from geoagent_rl.metrics.table import PART, SECTIONS, TAKEN, describe

PROMETHEUS_NAME = (
    "ray_geoagent_{}"  # Ray puts "ray_" before what cluster/jobs/metric_sinks.py names
)
HERE = Path(__file__).parent
ROOT = HERE.parents[1]
GRAFANA_UNITS = {"share": "percentunit", "s": "s", "GiB": "gbytes", "tokens/s": "short"}
# What Ray itself exports of every node; the metric table has the driver's node only.
NODES = {
    "Processor by node": ("ray_node_cpu_utilization", "percent"),
    "Memory by node": ("ray_node_mem_used", "bytes"),
    "GPU by node and index": ("ray_node_gpus_utilization", "percent"),
    "GPU memory by node and index": ("ray_node_gram_used", "decmbytes"),
    "Serve replicas": ("ray_serve_deployment_replica_healthy", "short"),
    "Requests waiting at replicas": ("ray_serve_replica_processing_queries", "short"),
}


def files() -> dict[Path, str]:
    """Return {path: text} of everything that is generated."""
    return {
        ROOT / "docs" / "metrics.md": metrics_page(),
        HERE / "grafana.json": json.dumps(dashboard(), indent=1) + "\n",
        HERE / "prometheus.yml": prometheus(),
    }


def metrics_page() -> str:
    """Return docs/metrics.md."""
    lines = [
        "# Metrics",
        "",
        "Generated from the metric table in `geoagent_rl/metrics/table.py` by `python -m cluster.monitor.generate`.",
        "",
        "Every name stands in `metrics.jsonl` (one line per optimizer step), in TensorBoard, on the monitor's page,",
        "and where asked for, in Weights & Biases. Prometheus has it as `ray_geoagent_<name>`, labelled with the run.",
        "A step has only the metrics that it could measure: no GPU, no `gpu_share`. `{part}` is each",
        "part of the reward that the run scores, those of your own (`reward.custom`) included.",
    ]
    for section, table in SECTIONS.items():
        lines += ["", f"## {section}", "", "| name | unit | meaning |", "|---|---|---|"]
        rows = (
            (name, unit, meaning.replace("|", "\\|")) for name, (unit, meaning) in table.items()
        )
        lines += [f"| `{name}` | {unit} | {meaning} |" for name, unit, meaning in rows]
    return "\n".join(lines) + "\n"


def dashboard() -> dict[str, Any]:
    """Return a Grafana dashboard: a row for each tab, one more for Ray's own node and Serve
    metrics.
    """
    out: list[dict[str, Any]] = []
    y, tab = 0, ""
    for panel in panels(BUILT_IN):
        if panel.tab != tab:
            tab, y = panel.tab, y + 9
            out.append(
                {
                    "type": "row",
                    "title": tab,
                    "gridPos": {"h": 1, "w": 24, "x": 0, "y": y},
                    "panels": [],
                }
            )
            x = 24
        width = 24 if panel.wide else 8
        if x + width > 24:
            x, y = 0, y + 9
        out.append(_panel(panel.title, _targets(panel), _unit(panel), (x, y, width)))
        x += width
    y += 9
    out.append(
        {"type": "row", "title": "Ray", "gridPos": {"h": 1, "w": 24, "x": 0, "y": y}, "panels": []}
    )
    for i, (title, (name, unit)) in enumerate(NODES.items()):
        targets = [{"expr": name, "legendFormat": "__auto", "refId": "A"}]
        out.append(_panel(title, targets, unit, (8 * (i % 3), y + 1 + 9 * (i // 3), 8)))
    source = {
        "name": "datasource",
        "type": "datasource",
        "query": "prometheus",
        "label": "Data source",
    }
    query = f"label_values({PROMETHEUS_NAME.format('step')}, run)"
    runs = {"name": "run", "type": "query", "datasource": _SOURCE, "query": query, "refresh": 2, "label": "Run",
            "includeAll": True, "multi": True, "current": {"text": "All", "value": "$__all"}}  # fmt: skip
    return {
        "uid": "geoagent-rl",
        "title": "GeoAgent-RL",
        "tags": ["geoagent-rl"],
        "timezone": "browser",
        "schemaVersion": 39,
        "refresh": "10s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {"list": [source, runs]},
        "panels": [{"id": i + 1, **panel} for i, panel in enumerate(out)],
    }


_SOURCE = {"type": "prometheus", "uid": "${datasource}"}


def _panel(
    title: str, targets: list[dict[str, str]], unit: str, at: tuple[int, int, int]
) -> dict[str, Any]:
    x, y, width = at
    return {
        "type": "timeseries",
        "title": title,
        "datasource": _SOURCE,
        "gridPos": {"h": 9, "w": width, "x": x, "y": y},
        "fieldConfig": {"defaults": {"unit": unit}, "overrides": []},
        "options": {
            "legend": {"displayMode": "list", "placement": "bottom"},
            "tooltip": {"mode": "multi"},
        },
        "targets": [{**target, "datasource": _SOURCE} for target in targets],
    }


def _targets(panel: Panel) -> list[dict[str, str]]:
    return [
        {**_query(row), "refId": chr(ord("A") + i)}
        for i, row in enumerate((*panel.metrics, *panel.band))
    ]


def _query(row: str) -> dict[str, str]:
    """Return the queries of one row of the metric table. A row of each part of the reward is asked
    for by a pattern, which finds the user's own parts too."""
    name = PROMETHEUS_NAME.format(row)
    if PART not in row:
        return {"expr": f'{name}{{run=~"$run"}}', "legendFormat": f"{row} {{{{run}}}}"}
    parts, others = name.replace(PART, ".+"), name.replace(PART, f"({'|'.join(TAKEN)})")
    wanted = f'__name__=~"{parts}",__name__!~"{others}"'
    return {"expr": f'{{{wanted},run=~"$run"}}', "legendFormat": "{{__name__}} {{run}}"}


def _unit(panel: Panel) -> str:
    return GRAFANA_UNITS.get(describe(panel.lines(BUILT_IN)[0])[0], "short")


def prometheus() -> str:
    """Scrape every node of a Ray cluster that runs on the machine where Prometheus does, and
    evaluate no rules."""
    settings = {
        "global": {"scrape_interval": "10s", "scrape_timeout": "8s"},
        "scrape_configs": [
            {
                "job_name": "ray",
                # Ray's head keeps this list of all nodes' metrics ports up to date; another
                # --temp-dir, another path.
                "file_sd_configs": [{"files": ["/tmp/ray/prom_metrics_service_discovery.json"]}],
            }
        ],
    }
    head = "# Generated by `python -m cluster.monitor.generate`.\n"
    head += "# Ray's head writes the file that lists all nodes' ports\n"
    head += "# into its --temp-dir (default /tmp/ray); change the path here if you started Ray with another.\n"
    return head + yaml.safe_dump(settings, sort_keys=False)


def main() -> None:
    """Write every generated file anew."""
    for path, text in files().items():
        write_text(path, text)
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
