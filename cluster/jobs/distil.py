"""`geoagent-rl judge distil`: load the student, train it on recorded verdicts, save it with its
table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from geoagent_rl.files import directory_at_once, write_json
from geoagent_rl.rewards.distil import collect, distil
from geoagent_rl.rewards.judge_models import TINY, dense_weights
from geoagent_rl.terminal import phase
from geoagent_rl.types import UserError

TABLE = "distilled.json"  # beside the weights
RATES = {"new": 3e-3, "tiny": 3e-4}  # learning rates; a checkpoint's is OTHER_RATE
OTHER_RATE = 2e-5


def distil_judge(
    runs: Sequence[Path], out: Path, start: str, steps: int, rate: float, agreement: float
) -> dict[str, Any]:
    """Return the table of rewards.distil and write the judge to `out`.

    start: "tiny" (the tiny judge's weights), "new" (new ones of its shape) or a Qwen3 checkpoint.
    rate: 0 for the usual one. Raises UserError."""
    if out.exists():
        raise UserError(f"{out} exists already; name another --out")
    with phase("reading verdicts"):
        found = collect(runs)
    with phase("loading the student"):
        model, tokenizer = student(start)
    with phase(f"training {steps} steps"):
        rate = rate or RATES.get(start, OTHER_RATE)
        table = distil(found, model, tokenizer, steps, rate, agreement)
    table = {"runs": [str(run) for run in runs], "start": start, "steps": steps} | table
    with directory_at_once(out) as part:
        save(model, tokenizer, part)
        write_json(part / TABLE, table)
    return table


def student(start: str) -> tuple[Any, Any]:
    """Return (model in float32, tokenizer). Raises UserError for what is no Qwen3 checkpoint."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, Qwen3ForCausalLM

    ours = start in ("tiny", "new")
    source = str(TINY) if ours else start
    try:
        config, tokenizer = (
            AutoConfig.from_pretrained(source),
            AutoTokenizer.from_pretrained(source),
        )
    except (OSError, ValueError) as error:
        raise UserError(f"--start {start}: {' '.join(str(error).split())[:200]}") from None
    if ours:
        del config.quantization_config
        torch.manual_seed(0)
        model = Qwen3ForCausalLM(config).float()
        if start == "tiny":
            model.load_state_dict(dense_weights(TINY / "model.safetensors"), strict=False)
        return model, tokenizer
    if config.model_type != "qwen3" or hasattr(config, "quantization_config"):
        raise UserError(f"--start {start} is no Qwen3 checkpoint with weights that can be trained")
    model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    return model.to("cuda" if torch.cuda.is_available() else "cpu"), tokenizer


def save(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write the judge as engines take it, in bfloat16."""
    import torch

    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def show(table: dict[str, Any], out: Path, agreement: float) -> str:
    """Return the table for people, and the settings with which a run uses the judge."""
    pairs, kept = table["pairs"], table["pairs_kept"]
    rows = {
        "verdicts recorded": f"{table['recorded']:,}",
        "distinct questions: train, choose, measure": (
            f"{table['train']:,}, {table['choose']:,}, {table['measure']:,}"
        ),
        "agreement with the large judge": (
            f"{table['agreement']:.1%} (before: {table['agreement_before']:.1%})"
        ),
        "expected calibration error": f"{table['calibration_error']:.3f}",
        f"still goes up, for {agreement:.0%} agreement": f"{table['raised_share']:.1%}",
        "agreement of the cascade": f"{table['cascade_agreement']:.1%}",
        "R_con: pairs of answers told apart, order kept": (
            f"{pairs:,}, {kept / pairs:.1%}" if pairs else "none"
        ),
    }
    width = max(map(len, rows))
    lines = [f"{name:<{width}}  {value}" for name, value in rows.items()]
    use = f"judge.model={out} judge.cascade.unsure_below={table['unsure_below']:.4g}"
    return "\n".join([*lines, f"use it: judge.cascade.enabled=true {use} judge.endpoint.url=..."])
