"""One metric table: panels, Grafana dashboard and documentation name exactly what it names."""

import json
import re

import pytest
import yaml

from cluster.jobs.metric_sinks import PREFIX
from cluster.monitor.generate import PROMETHEUS_NAME, dashboard, files, prometheus
from cluster.monitor.panels import panels
from geoagent_rl.metrics.table import metrics

PARTS = ["spatial", "near"]  # one built in, one of the user's own


def selects(expr, name):
    """Whether a query of the dashboard asks Prometheus for this metric."""
    plain, _, labels = expr.partition("{")
    wanted, unwanted = (re.search(rf'__name__{op}"([^"]+)"', labels) for op in ("=~", "!~"))
    if wanted is None:
        return plain == name
    return bool(re.fullmatch(wanted[1], name)) and not re.fullmatch(unwanted[1], name)


def test_every_metric_is_in_a_panel_with_others_of_its_unit():
    table = metrics(PARTS)
    shown = {panel: (*panel.lines(PARTS), *panel.band) for panel in panels(PARTS)}
    assert {name for names in shown.values() for name in names} == set(table)
    for panel, names in shown.items():
        assert len({table[name][0] for name in names}) == 1, panel.title
    assert len({panel.id for panel in shown}) == len(shown)


def test_every_metric_has_a_name_that_prometheus_takes_a_unit_and_a_meaning():
    for name, (unit, meaning) in metrics(PARTS).items():
        assert re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name) and unit and meaning


@pytest.mark.parametrize("path", files(), ids=lambda path: path.name)
def test_generated_files_are_fresh(path):
    assert path.read_text(encoding="utf-8") == files()[path], (
        "run python -m cluster.monitor.generate"
    )


def test_the_grafana_dashboard_asks_for_every_metric_under_the_name_that_ray_exports():
    assert PROMETHEUS_NAME.format("x") == f"ray_{PREFIX}x"
    found = json.loads(json.dumps(dashboard()))
    asked = [t["expr"] for panel in found["panels"] for t in panel.get("targets", ())]
    own = ("reward_near_mean", "reward_near_std", "unscorable_share_near", "latency_near_q50")
    for name in (*metrics(["spatial"]), *own):
        assert any(selects(expr, PROMETHEUS_NAME.format(name)) for expr in asked), name
    for total in ("reward_total_mean", "latency_scoring_q50"):
        assert sum(selects(expr, PROMETHEUS_NAME.format(total)) for expr in asked) == 1, total
    places = [tuple(panel["gridPos"].values()) for panel in found["panels"]]
    assert len(set(places)) == len(places) and all(w + x <= 24 for _, w, x, _ in places)
    assert [panel["id"] for panel in found["panels"]] == list(range(1, len(places) + 1))


def test_prometheus_reads_rays_list_of_nodes():
    """The fields that Prometheus knows; its own promtool has been run on the file by hand
    (docs/monitor.md).
    """
    settings = yaml.safe_load(prometheus())
    assert settings.keys() == {"global", "scrape_configs"}
    assert settings["global"].keys() <= {"scrape_interval", "scrape_timeout", "evaluation_interval"}
    assert all(re.fullmatch(r"\d+s", value) for value in settings["global"].values())
    (job,) = settings["scrape_configs"]
    assert job.keys() == {"job_name", "file_sd_configs"}
    assert job["file_sd_configs"][0]["files"][0].endswith("/prom_metrics_service_discovery.json")
