"""`geoagent-rl config`: what may stand in a configuration file."""

from __future__ import annotations

import json

import typer

from geoagent_rl.config import json_schema

config_app = typer.Typer(help="What may stand in a configuration file.", no_args_is_help=True)


@config_app.callback()
def config() -> None:
    """Show what may stand in a configuration file."""


@config_app.command()
def schema() -> None:
    """Print the JSON schema of configuration files, for editors that check and complete them."""
    print(json.dumps(json_schema(), indent=1))
