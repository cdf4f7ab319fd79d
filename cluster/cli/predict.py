"""`predict` and `serve-model`, attached to the command line by cli.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cluster.cli.data import Json
from geoagent_rl.terminal import phase

if TYPE_CHECKING:
    from geoagent_rl.config import PolicyConfig
    from geoagent_rl.prediction.locator import Locator

Model = Annotated[
    str,
    typer.Option(
        help="A checkpoint, exported, or a run directory; default: the newest finished run's policy."
    ),
]
Asked = Annotated[
    Path | None,
    typer.Option(
        "--config",
        help="Whose policy section says prompt, answer form and size of pictures; default: the run's.",
    ),
]
Tokens = Annotated[int, typer.Option(help="Longest completion, in tokens.")]


def predict(
    path: Annotated[Path, typer.Argument(help="A photograph, or a folder of them.")],
    model: Model = "",
    out: Annotated[
        Path | None,
        typer.Option(help="Where a folder's rows go: .csv or .jsonl. The same again goes on."),
    ] = None,
    max_tokens: Tokens = 1024,
    config: Asked = None,
    as_json: Json = False,
) -> None:
    """Locate photographs: the reasoning, the answer, its coordinates and the matched level."""
    from geoagent_rl.data.images import open_image
    from geoagent_rl.prediction.folder import check_out, photographs, predict_folder
    from geoagent_rl.prediction.locator import show_prediction

    asked = asked_by(config)
    if path.is_dir():
        target = check_out(out)
        photographs(path)
        written, bad = predict_folder(path, target, loaded(chosen(model), max_tokens, asked).locate)
        print(f"{target}: {written} rows written, {bad} of them photographs that cannot be read")
        return
    picture = open_image(path)
    checkpoint = chosen(model)
    locator = loaded(checkpoint, max_tokens, asked)
    with phase(f"locating {path}"):
        found = locator.locate(picture)
    row = {"image": str(path), "model": str(checkpoint), **found}
    print(json.dumps(row, ensure_ascii=False) if as_json else show_prediction(row))


def asked_by(config: Path | None) -> PolicyConfig | None:
    """Return how a configuration asks its policy, its prompts as texts."""
    if config is None:
        return None
    from geoagent_rl.config import load
    from geoagent_rl.policy.prompt_files import with_prompts

    return with_prompts(load(config)).policy


def loaded(model: Path, max_tokens: int, asked: PolicyConfig | None) -> Locator:
    """Return the policy, loaded while a line says so: torch alone takes seconds."""
    from geoagent_rl.prediction.locator import Locator

    with phase(f"loading {model}"):
        return Locator(model, max_tokens, asked)


def serve_model(
    model: Model = "",
    host: Annotated[
        str, typer.Option(help="Address to listen on; not on loopback it asks for a token.")
    ] = ("127.0.0.1"),
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one.")] = 8090,
    max_upload_mb: Annotated[float, typer.Option(help="Larger uploads are refused.")] = 20.0,
    max_megapixels: Annotated[
        float, typer.Option(help="Larger pictures are refused before they are decoded.")
    ] = 80.0,
    max_tokens: Tokens = 1024,
    config: Asked = None,
) -> None:
    """Serve a page and a JSON endpoint that locate photographs: drop one, see reasoning and map.
    Works offline."""
    from geoagent_rl.prediction.server import serve

    limits = (max_upload_mb, max_megapixels, max_tokens)
    serve(chosen(model), host, port, *limits, asked_by(config))


def chosen(model: str) -> Path:
    """Return the checkpoint that was named, else the newest policy under runs/."""
    from geoagent_rl.prediction.locator import newest_policy

    return Path(model) if model else newest_policy(Path("runs"))
