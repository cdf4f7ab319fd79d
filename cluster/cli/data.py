"""`geoagent-rl data ...`: import, check, draw, compare and show datasets; render street scenes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from geoagent_rl.types import UserError

data_app = typer.Typer(
    help="Import, draw, check and show datasets; render street scenes.", no_args_is_help=True
)

Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Manifest = Annotated[Path, typer.Argument(help="A manifest or a folder of photographs.")]
MOST = 1_000_000_000  # rows or scenes


@data_app.command("sample")
def data_sample(
    pool: Annotated[
        Path,
        typer.Argument(help="Parquet, CSV or JSONL with coordinates, or a folder of such files."),
    ],
    n: Annotated[int, typer.Option("--n", min=1, max=MOST, help="How many rows to draw.")],
    out: Annotated[
        Path, typer.Option(help="The sample: .csv, .jsonl or .parquet. The report goes beside it.")
    ],
    min_per_country: Annotated[
        int, typer.Option(min=0, max=MOST, help="At least so many, where the pool has them.")
    ] = 0,
    exclude: Annotated[
        str, typer.Option(help='ISO codes of countries to leave out, as in AQ,GL; "" for none.')
    ] = "AQ",
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same sample.")] = 0,
    shortfall: Annotated[
        str,
        typer.Option(
            help="What the pool lacks of a country: redistribute it to the others, or leave it."
        ),
    ] = "redistribute",
    countries: Annotated[
        Path | None,
        typer.Option(help="Another table: iso2, roads_km, population, land_km2 (CSV or TSV)."),
    ] = None,
    lat: Annotated[str, typer.Option(help="Column of latitudes, if it has an unusual name.")] = "",
    lon: Annotated[str, typer.Option(help="Column of longitudes.")] = "",
    country: Annotated[
        str, typer.Option(help="Column of countries; without one: the nearest town's.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Draw the paper's de-biased sample: countries by roads, population and area, cells by log
    population.
    """
    from geoagent_rl.data.draw import check_out, draw, stratify, write_rows
    from geoagent_rl.data.pools import open_pool
    from geoagent_rl.data.tables import whole_rows
    from geoagent_rl.geo.countries import countries as built_in
    from geoagent_rl.geo.countries import country_table
    from geoagent_rl.pages.sample import show_draw, write_draw_report

    if shortfall not in ("redistribute", "leave"):
        raise UserError(f"--shortfall is redistribute or leave, not {shortfall}")
    table = country_table(whole_rows(countries), str(countries)) if countries else built_in()
    opened = open_pool(pool, lat, lon, country)
    excluded = [code for code in exclude.upper().replace(" ", "").split(",") if code]
    check_out(opened, out)
    strata = stratify(opened, table)
    drawn = draw(strata, table, n, min_per_country, excluded, seed, shortfall == "redistribute")
    write_rows(opened, drawn.rows, out)
    facts = {"pool": str(pool), "seed": seed, "minimum": min_per_country, "exclude": excluded, "shortfall": shortfall,
             "countries_from": str(countries) if countries else "World Factbook, GeoNames"}  # fmt: skip
    html = out.with_name(f"{out.stem}-report.html")
    write_draw_report(html, drawn, table, facts)
    summary = drawn.summary()
    print(
        json.dumps(facts | summary)
        if as_json
        else "\n".join([*show_draw(summary), f"sample: {out}"])
    )
    print(f"report: {html}", file=sys.stderr)


@data_app.command("import")
def data_import(
    source: Annotated[
        Path, typer.Argument(help="A folder, or a Parquet, Arrow, JSONL, JSON, CSV or TSV file.")
    ],
    out: Annotated[Path, typer.Argument(help="The manifest to write: .parquet or .jsonl.")],
    kind: Annotated[
        str,
        typer.Option(
            help="auto, geoseek, swift, osv5m, mp16, im2gps, geocomp, exif or photos (any table)."
        ),
    ] = "auto",
    mapping: Annotated[
        list[str] | None,
        typer.Option("--map", help="Our column = theirs, as in --map lat=gps_latitude."),
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="Where the photographs are, if not with the table.")
    ] = None,
    copy: Annotated[
        bool, typer.Option("--copy", help="Link or copy photographs into images/ beside OUT.")
    ] = False,
    fill_names: Annotated[
        bool, typer.Option(help="Rows without any name get those of the nearest town.")
    ] = True,
    geocode: Annotated[
        bool,
        typer.Option(
            "--geocode",
            help="Rows without coordinates get those of their names, from the gazetteer.",
        ),
    ] = False,
) -> None:
    """Turn a data set into a manifest: GeoSeek, OSV-5M, MP-16, IM2GPS, GeoComp, ms-swift, EXIF, or
    any table.
    """
    from geoagent_rl.data.importers.kinds import read_mapping
    from geoagent_rl.data.importers.run import Options, import_dataset

    options = Options(kind, read_mapping(mapping or ()), images, copy, fill_names, geocode)
    loaded = import_dataset(source, out, options)
    for note in loaded.notes:
        print(note, file=sys.stderr)
    print(f"{out}: {len(loaded.samples)} of {loaded.rows} rows")


@data_app.command("export")
def data_export(
    manifest: Manifest,
    out: Annotated[Path, typer.Argument(help="The ms-swift .jsonl to write.")],
) -> None:
    """Write a manifest as ms-swift JSONL (messages, images, solution)."""
    from geoagent_rl.data.importers.swift import export_swift

    print(f"{out}: {export_swift(manifest, out)} rows")


@data_app.command("validate")
def data_validate(manifest: Manifest) -> None:
    """Check a dataset: images, coordinates, duplicates, swapped or radian coordinates."""
    from geoagent_rl.data.validate import validate

    report = validate(manifest)
    print("\n".join(report.lines))
    raise typer.Exit(0 if report.ok else 1)


@data_app.command("audit")
def data_audit(
    manifest: Manifest,
    provider: Annotated[
        str, typer.Option(help="gazetteer, opencage, nominatim, photon: one or several, by commas.")
    ] = "gazetteer",
    url: Annotated[str, typer.Option(help="Address of the one remote provider.")] = "",
    as_json: Json = False,
) -> None:
    """Geocode the manifest's own names and measure how far they lie from its coordinates."""
    from dataclasses import asdict
    from functools import partial

    from geoagent_rl.data.audit import abroad, audit, show
    from geoagent_rl.data.manifest import read
    from geoagent_rl.geo.lookup import lookup
    from geoagent_rl.geo.providers import provider_names

    samples = read(manifest)
    audits = [
        audit(samples, name, partial(lookup, provider=name, url="" if name == "gazetteer" else url))
        for name in provider_names(provider)
    ]
    strays = abroad(samples)
    if as_json:
        rows = [{"uid": uid, **asdict(stray)} for uid, stray in strays]
        print(json.dumps({"audits": [asdict(one) for one in audits], "outside": rows}))
    else:
        print("\n".join(show(audits, strays, len(samples))))


@data_app.command("show")
def data_show(manifest: Manifest) -> None:
    """Say what a dataset holds: samples, countries, coordinates, share with reasoning."""
    from geoagent_rl.data.validate import show

    print("\n".join(show(manifest)))


@data_app.command("scenes")
def data_scenes(
    out: Annotated[Path, typer.Argument(help="The folder to write images and manifest into.")],
    n: Annotated[int, typer.Option(min=1, max=MOST, help="How many scenes.")] = 256,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same scenes.")] = 0,
    split: Annotated[
        str, typer.Option(help="train, heldout (new scenes) or hidden (places never trained on).")
    ] = "train",
) -> None:
    """Render street scenes of real places, with reasoning texts: data for a machine without
    photographs.
    """
    from geoagent_rl.tiny.scenes import make

    print(make(out, n, seed, split, with_cot=True))


@data_app.command("contamination")
def data_contamination(
    a: Annotated[
        Path,
        typer.Argument(help="Training data: a manifest, or any table or folder with coordinates."),
    ],
    b: Annotated[Path, typer.Argument(help="Evaluation data, likewise.")],
    km: Annotated[float, typer.Option(min=0.001, help="Nearer than this is the same place.")] = 1.0,
    bits: Annotated[
        int, typer.Option(min=0, max=32, help="Of 64 bits of the hash, so many may differ.")
    ] = 6,
    photographs: Annotated[
        bool, typer.Option(help="Compare photographs too, where both sides have files.")
    ] = True,
    clean: Annotated[Path | None, typer.Option(help="Write A without the overlap here.")] = None,
    as_json: Json = False,
) -> None:
    """Report whether A holds places or photographs of B: distances on the ground, perceptual
    hashes."""
    import numpy as np

    from geoagent_rl.data.contamination import overlap, read_side, show_overlap
    from geoagent_rl.data.draw import check_out, write_rows

    first, second = read_side(a, photographs), read_side(b, photographs)
    if clean:
        check_out(first.pool, clean)
    found = overlap(first, second, km, bits)
    print(
        json.dumps(found.report)
        if as_json
        else "\n".join(show_overlap(found.report, (a.name, b.name)))
    )
    if clean:
        write_rows(first.pool, np.setdiff1d(np.arange(len(first.lat)), found.rows), clean)


@data_app.command("cot-check")
def data_cot_check(
    manifest: Manifest,
    keep: Annotated[
        Path | None, typer.Option(help="Write the samples without fault here, in the same folder.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Check chains of thought: three stages, conclusions that equal the answer, reasoning
    lengths.
    """
    from geoagent_rl.data.cot_check import check_chains, show_chains
    from geoagent_rl.data.manifest import check_name, read, write

    if keep:
        check_name(keep)
    checked = check_chains(read(manifest))
    if keep:
        write(keep, checked.passed)
    print(json.dumps(checked.report) if as_json else "\n".join(show_chains(checked)))
    raise typer.Exit(1 if checked.faults else 0)


@data_app.command("locatability")
def data_locatability(
    manifest: Manifest,
    out: Annotated[Path, typer.Argument(help="The manifest to write, in the same folder.")],
    scores: Annotated[
        Path | None, typer.Option(help="A file with columns uid and locatability to take over.")
    ] = None,
    endpoint: Annotated[
        str, typer.Option(help="An OpenAI-compatible API, as in http://127.0.0.1:8000/v1.")
    ] = "",
    model: Annotated[str, typer.Option(help="The model's name at that endpoint.")] = "",
    key_env: Annotated[
        str, typer.Option(help="The environment variable that holds its key.")
    ] = "OPENAI_API_KEY",
    timeout_s: Annotated[float, typer.Option(help="For one request.")] = 120.0,
    concurrent: Annotated[int, typer.Option(min=1, help="Requests under way at once.")] = 8,
) -> None:
    """Give photographs a score 0-10 of how well they can be located: from a file, or asked of a
    VLM.
    """
    import asyncio
    import os

    from geoagent_rl.data import locatability as scoring
    from geoagent_rl.data.manifest import check_name, read, write

    if bool(scores) == bool(endpoint) or (endpoint and not model):
        raise UserError("give either --scores FILE, or --endpoint URL with --model NAME")
    check_name(out)
    samples = read(manifest)
    reasons: dict[str, str] = {}  # why a sample got no score
    if scores:
        found = scoring.read_scores(scores)
    else:
        asked = scoring.Endpoint(
            endpoint, model, os.environ.get(key_env, ""), timeout_s, concurrent=concurrent
        )
        found, reasons = asyncio.run(
            scoring.ask_all(samples, asked, scoring.kept_beside(out, model))
        )
    given = sum(s.uid in found for s in samples)
    if scores and not given:
        theirs, ours = next(iter(found), "none"), samples[0].uid
        raise UserError(
            f"{scores} scores no sample of {manifest}: its uids are like {theirs!r}, those like {ours!r}"
        )
    write(out, scoring.with_scores(samples, found))
    for uid, reason in list(reasons.items())[:3]:
        print(f"no score: {uid}: {reason}", file=sys.stderr)
    strangers = len(set(found) - {s.uid for s in samples})
    print(
        f"{out}: {given} of {len(samples)} samples scored"
        + (f", {strangers} scores of others" if strangers else "")
    )
