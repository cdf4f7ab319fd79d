"""`geoagent-rl eval ...`: score and compare prediction files of any system. `eval run`, which makes
them, needs Ray.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from cluster.cli.data import Json
from geoagent_rl.types import UserError

eval_app = typer.Typer(help="Evaluate checkpoints and prediction files.", no_args_is_help=True)

Column = Annotated[str, typer.Option(help="Column name.")]
Scale = Annotated[
    float, typer.Option(help="GeoScore = 5000 exp(-d/scale). Paper 1805, OSV-5M 1492.7.")
]
ByOption = Annotated[
    str,
    typer.Option(
        help="Tables by locatability, scene, continent, country, or several: scene,continent."
    ),
]
ManifestOption = Annotated[
    Path | None,
    typer.Option(help="Joined by uid: true positions, names, locatability and scene classes."),
]
HtmlOption = Annotated[
    Path | None, typer.Option("--html", help="Also write a page: tables, map of errors. Offline.")
]
Benchmark = Annotated[
    str, typer.Option(help="Show the paper's table beside it: im2gps3k, geoseek-val.")
]
ALL = ("locatability", "scene", "continent", "country")


@eval_app.command("score")
def eval_score(
    file: Annotated[Path, typer.Argument(help="Predictions: CSV, TSV, JSONL or Parquet.")],
    gt_lat: Column = "gt_lat",
    gt_lon: Column = "gt_lon",
    pred_lat: Column = "pred_lat",
    pred_lon: Column = "pred_lon",
    answer: Annotated[
        str, typer.Option(help="A column of text answers, geocoded instead of a position.")
    ] = "",
    geoscore_scale_km: Scale = 1805.0,
    manifest: ManifestOption = None,
    by: ByOption = "",
    published: Benchmark = "",
    html: HtmlOption = None,
    as_json: Json = False,
) -> None:
    """Print hit rates at 1/25/200/750/2500 km and GeoScore of a prediction file, of any system."""
    from geoagent_rl.evaluation.predictions import read_predictions
    from geoagent_rl.evaluation.summary import summarise

    check(geoscore_scale_km, published)
    names = (gt_lat, gt_lon, pred_lat, pred_lon)
    predictions = read_predictions(file, names, manifest, answer=answer)
    table = summarise(predictions, geoscore_scale_km, kinds(by) or (ALL if html else ()))
    if html:
        from geoagent_rl.pages.evaluation import write_eval_page

        write_eval_page(html, [predictions], {"systems": {predictions.name: table}}, published)
    if as_json:
        print(json.dumps(table))
        return
    from geoagent_rl.evaluation.text import show_published, show_score

    print("\n".join([*show_score(table), *show_published(published, {predictions.name: table})]))


@eval_app.command("compare")
def eval_compare(
    files: Annotated[list[str], typer.Argument(help="FILE or NAME=FILE, the baseline first.")],
    gt_lat: Column = "gt_lat",
    gt_lon: Column = "gt_lon",
    pred_lat: Column = "pred_lat",
    pred_lon: Column = "pred_lon",
    geoscore_scale_km: Scale = 1805.0,
    manifest: ManifestOption = None,
    by: ByOption = "",
    published: Benchmark = "",
    html: HtmlOption = None,
    rounds: Annotated[
        int, typer.Option(min=100, max=1_000_000, help="Resamples of the paired bootstrap.")
    ] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="Of the resamples.")] = 0,
    as_json: Json = False,
) -> None:
    """Compare several systems on the same photographs: tables, and differences to the first with 95
    % intervals."""
    from geoagent_rl.evaluation.predictions import read_predictions
    from geoagent_rl.evaluation.summary import compare, on_common_photographs
    from geoagent_rl.evaluation.text import show_comparison, show_published

    check(geoscore_scale_km, published)
    if len(files) < 2:
        raise UserError("give at least two prediction files; for one there is `eval score`")
    columns = (gt_lat, gt_lon, pred_lat, pred_lon)
    systems = [read_predictions(path, columns, manifest, name) for name, path in map(named, files)]
    table = compare(systems, geoscore_scale_km, kinds(by) or (ALL if html else ()), rounds, seed)
    if html:
        from geoagent_rl.pages.evaluation import write_eval_page

        write_eval_page(html, on_common_photographs(systems), table, published)
    if as_json:
        print(json.dumps(table))
    else:
        print("\n".join([*show_comparison(table), *show_published(published, table["systems"])]))


@eval_app.command("published")
def eval_published(
    benchmark: Annotated[
        str, typer.Argument(help="im2gps3k, geoseek-val, ablation, judge, bases; none: all.")
    ] = "",
) -> None:
    """Print the paper's tables."""
    from geoagent_rl.evaluation.published import NOTES, TABLES
    from geoagent_rl.evaluation.text import show_published

    no_systems: Mapping[str, Any] = {}
    check(1.0, benchmark)
    for name in [benchmark] if benchmark else TABLES:
        print("\n".join(show_published(name, no_systems)), end="\n\n")
    print("\n".join(NOTES))


def check(scale_km: float, benchmark: str) -> None:
    """Raise UserError for a scale or benchmark that does not exist."""
    from geoagent_rl.evaluation.published import TABLES

    if not scale_km > 0:
        raise UserError(f"the GeoScore scale must be greater than 0 km, not {scale_km}")
    if benchmark and benchmark not in TABLES:
        raise UserError(f"no published table {benchmark!r}; there are {', '.join(TABLES)}")


def kinds(by: str) -> tuple[str, ...]:
    """Split a comma-separated list of bucket kinds."""
    return tuple(kind.strip() for kind in by.split(",") if kind.strip())


def named(text: str) -> tuple[str, Path]:
    """Return NAME=FILE, or FILE under its own name."""
    name, equals, path = text.partition("=")
    return (
        (name, Path(path)) if equals and not Path(text).exists() else (Path(text).stem, Path(text))
    )
