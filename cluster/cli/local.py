"""`geoagent-rl`: the commands that need no cluster. cluster/cli/main.py adds those that do and
holds the entry point.

Errors are one line that says what is wrong and what to do; a stack trace only with --debug.
Machine-readable output (--json) goes to standard output, everything else that is said on the way to
standard error."""

from __future__ import annotations

import itertools
import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer
from typer.models import CommandInfo, TyperInfo

from cluster.cli.data import Json, data_app
from cluster.cli.evaluation import eval_app
from cluster.cli.predict import predict, serve_model
from geoagent_rl.terminal import errors_in_one_line, every_letter_passes, moving, phase

app = typer.Typer(
    help="Train a vision-language model to tell where a photograph was taken, by RL on a Ray cluster.",
    epilog="Begin with `geoagent-rl doctor`, then `geoagent-rl demo`. --debug shows an error's trace. See also docs/.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(data_app, name="data")
app.add_typer(eval_app, name="eval")


def show_version(asked: bool) -> None:
    """Print the installed version and exit."""
    if asked:
        print(f"geoagent-rl {version('geoagent-rl')}")
        raise typer.Exit


@app.callback()
def options(
    _: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", callback=show_version, is_eager=True),
    ] = False,
) -> None:
    """Take the options that belong to no command."""


@app.command()
def geocode(
    addresses: Annotated[
        list[str] | None, typer.Argument(help="Addresses; none: one per line of standard input.")
    ] = None,
    provider: Annotated[
        str,
        typer.Option(
            help="gazetteer, opencage (key in OPENCAGE_API_KEY), nominatim, photon, or several: a,b."
        ),
    ] = "gazetteer",
    url: Annotated[
        str, typer.Option(help="Address of the remote provider's server, if it is your own.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Resolve "Country; Region; Place" with the offline gazetteer (many languages) or with remote
    geocoders.
    """
    from geoagent_rl.geo.lookup import lookup
    from geoagent_rl.geo.match import match_to_json

    asked, queries = itertools.tee(addresses or (line.rstrip("\n") for line in sys.stdin))
    for match, address in zip(lookup(queries, provider, url), asked, strict=True):
        row = match_to_json(match)
        if as_json:
            print(json.dumps(row, ensure_ascii=False), flush=True)
        elif match is None:
            print(f"{address}: no such place", flush=True)
        else:
            where = ", ".join(
                dict.fromkeys(x for x in (row["name"], row["admin1"], row["country_code"]) if x)
            )
            print(
                f"{address}: {row['lat']:.4f}, {row['lon']:.4f}  ({row['level']}: {where}; {row['provider']})",
                flush=True,
            )


@app.command("tiny-policy")
def tiny_policy(
    seed: Annotated[int, typer.Option(help="The same seed gives the same weights.")] = 0,
) -> None:
    """Train the tiny CPU policy (Qwen2.5-VL architecture) on scenes, cached by content. Prints its
    directory.
    """
    from geoagent_rl.geo.gazetteer_file import cache_root
    from geoagent_rl.tiny.policy import build

    print(build(cache_root(), seed))


@app.command()
def export(
    source: Annotated[
        Path, typer.Argument(metavar="RUN_OR_CHECKPOINT", help="A run directory or one checkpoint.")
    ],
    out: Annotated[Path, typer.Argument(help="The directory to write.")],
    base: Annotated[
        str, typer.Option(help="The checkpoint trained on, if it is no longer where it was.")
    ] = "",
    push: Annotated[
        str,
        typer.Option(
            metavar="OWNER/NAME",
            help="Also upload it to the Hugging Face Hub, privately (HF_TOKEN).",
        ),
    ] = "",
) -> None:
    """Merge a checkpoint's adapter into a standalone Hugging Face checkpoint with a model card, for
    transformers and vLLM.
    """
    from geoagent_rl.pages.model_card import model_card
    from geoagent_rl.policy.export import export as merge
    from geoagent_rl.prediction.hub import push as upload

    with phase(f"merging {source}"):
        checkpoint = merge(source, out, base)
    (out / "README.md").write_text(model_card(checkpoint, push or out.name), encoding="utf-8")
    print(f"{out}: {checkpoint} merged", file=sys.stderr)
    if push:
        with phase(f"uploading {out}"):
            address = upload(out, push)
        print(f"{address}: private; its model card is README.md", file=sys.stderr)
    print(out)


@app.command()
def report(run: Annotated[Path, typer.Argument(help="A run directory.")]) -> None:
    """Write report.html into a run directory: curves, table, sample rollouts, map. Opens
    offline.
    """
    from geoagent_rl.pages.report import write_report

    with phase(f"reporting on {run}"):
        written = write_report(run)
    print(written)


@app.command()
def compare(
    a: Annotated[Path, typer.Argument(metavar="RUN_A", help="A run directory.")],
    b: Annotated[Path, typer.Argument(metavar="RUN_B", help="Another.")],
    html: Annotated[Path | None, typer.Option("--html", help="Also write a page.")] = None,
    as_json: Json = False,
) -> None:
    """Compare two runs: settings, curves, evaluations with paired 95 % intervals, samples."""
    from geoagent_rl.pages.run_comparison import compare_runs, show_runs, write_comparison

    with moving(lambda: "comparing"):
        table = compare_runs((a, b))
    if html:
        write_comparison(html, (a, b), table)
    print(json.dumps(table) if as_json else show_runs(table))


@app.command()
def doctor(as_json: Json = False) -> None:
    """Check this machine and installation, and say what to do about each failure."""
    from cluster.cli import doctor as checks

    raise typer.Exit(checks.run(as_json))


app.command()(predict)
app.command("serve-model")(serve_model)


# How `geoagent-rl -h` lists the commands: what a new user needs first comes first.
PANELS = {
    "Start here": ("doctor", "demo"),
    "Train": ("sft", "train", "ablate", "recipes"),
    "On a cluster": ("plan", "submit", "jobs", "status", "scale", "monitor", "cluster-demo"),
    "Use what was trained": ("predict", "serve-model", "eval", "report", "compare", "export"),
    "Data and rewards": ("data", "geocode", "reward", "tiny-policy"),
}


def arrange() -> None:
    """Put every command into its panel, in the order of PANELS; groups come after plain commands in
    each.
    """
    panels = {
        name: (title, place) for title, names in PANELS.items() for place, name in enumerate(names)
    }
    order = {title: place for place, title in enumerate(PANELS)}

    def rank(info: CommandInfo | TyperInfo) -> tuple[int, int]:
        name = info.name or getattr(info.callback, "__name__", "").replace("_", "-")
        info.rich_help_panel, place = panels.get(name, ("More", len(panels)))
        return order.get(info.rich_help_panel, len(order)), place

    app.registered_commands.sort(key=rank)
    app.registered_groups.sort(key=rank)


def run_app() -> None:
    """Run the command line. What a user can mend (also a file or folder that the system refuses) is
    one line and exit code 1; --debug shows the trace.
    """
    arrange()
    debug = "--debug" in sys.argv
    if debug:
        sys.argv.remove("--debug")
    every_letter_passes()
    with errors_in_one_line(debug):
        app()
