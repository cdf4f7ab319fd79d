"""`geoagent-rl demo`: the main job on a bare machine, end to end, with everything real and only the
models small.

data -> base policy -> SFT -> GRPO -> evaluation -> report. Held-out scenes show what was learnt;
scenes of places that no stage ever saw are reported beside them; and so is a control that says how
much of the rise is only un-hedging: the policy after SFT, without any further training, forbidden
to answer "unknown"."""

from __future__ import annotations

import math
import time
from typing import Any

from cluster.jobs.grpo import reinforce
from cluster.jobs.stages import SCENES, cold_start, dataset, measure, tiny_base
from cluster.launch import Stack, run_until_done, running_stack, session
from cluster.storage import on_storage
from geoagent_rl.config import Config
from geoagent_rl.data import manifest
from geoagent_rl.data.sample import Sample
from geoagent_rl.metrics.batch import mean
from geoagent_rl.pages.closing import closing
from geoagent_rl.pages.report import write_report
from geoagent_rl.policy.prompt import load_processor
from geoagent_rl.run.directory import RunDir
from geoagent_rl.run.log import logged
from geoagent_rl.run.start import check_new
from geoagent_rl.terminal import phase, say
from geoagent_rl.tiny import policy as tiny
from geoagent_rl.types import PolicyVersion

COLUMNS = ("format_valid", "country_acc", "region_acc", "place_acc", "reward_total", "geoscore")
ENDS = 5  # steps averaged at each end of training


def run_demo(config: Config, photos: str) -> None:
    """Run every stage in turn; print the table and the report's path on standard output."""
    begin = time.monotonic()
    config = on_storage(config)
    run = RunDir(config.run.dir)
    with run.exclusive():
        check_new(run, config, photos)
        splits = {}
        if photos:
            splits["photos"] = manifest.read(photos, config.data.max_image_megapixels)
        run.begin(config)
        with logged(run.path):
            scenes = ("sft", "train", "heldout", "hidden")
            splits |= {split: dataset(config, run, SCENES, split) for split in scenes}
            tables = run_until_done(demo(config, run, splits, tiny_base(config)))
            with phase("writing the report"):
                report = write_report(run.path)
            run.finish(config.steps)
            print(table_text(tables))
            print(learning_text(run, tables))
            print(f"{(time.monotonic() - begin) / 60:.1f} minutes in all\nreport: {report}")
            say(closing(run.path))


async def demo(
    config: Config, run: RunDir, splits: dict[str, list[Sample]], base: str
) -> dict[tuple[str, str], dict[str, Any]]:
    """Return {(stage, split): evaluation table}. splits: sft, train, heldout, hidden and perhaps
    photos."""
    tested = [split for split in ("heldout", "hidden", "photos") if split in splits]
    tables: dict[tuple[str, str], dict[str, Any]] = {}
    async with session(config, run.path) as s:
        async with running_stack(s, base) as stack:

            async def test(stage: str, banned: tuple[int, ...] = ()) -> None:
                for split in tested if not banned else ("heldout",):
                    at = config.rollout.temperature
                    tables[stage, split] = await measure(
                        s.config, stack, run, stage, split, splits[split], at, banned
                    )
                say(f"{stage}: reward {reward(tables, stage):.3f} on held-out scenes")

            await test("base")
            sft = run.path / "policy-sft"
            await cold_start(s, run, base, splits["sft"], sft)
            with phase("giving the engines the policy after SFT"):
                await take(stack, str(sft))
            await test("sft")
            await test("sft_no_hedge", tiny.hedge_ids(load_processor(str(sft)).tokenizer))
            await reinforce(s, stack, run, str(sft), splits["train"], splits["heldout"])
            await test("grpo")
    return tables


async def take(stack: Stack, model_dir: str) -> None:
    """Give the engines another starting checkpoint."""
    for engine in stack.engines:
        await engine.swap(PolicyVersion(0, "checkpoint", model_dir))
    stack.model_dir = model_dir


def reward(tables: dict[tuple[str, str], dict[str, Any]], stage: str) -> float:
    """Return the mean reward on held-out scenes; NaN when none could be scored."""
    return float(tables[stage, "heldout"].get("reward_total", math.nan))


def table_text(tables: dict[tuple[str, str], dict[str, Any]]) -> str:
    """Return the table that the demo ends with."""
    hits = ("25", "200", "750", "2500")
    head = f"{'stage':<14}{'split':<9}{'n':>5}" + "".join(f"{f'{km} km':>9}" for km in hits)
    lines = [head + "".join(f"{name:>14}" for name in COLUMNS)]
    for (stage, split), row in tables.items():
        cells = "".join(f"{row['hit'][km]:>9.3f}" for km in hits) + "".join(
            f"{row.get(name, math.nan):>14.3f}" for name in COLUMNS
        )
        lines.append(f"{stage:<14}{split:<9}{row['n']:>5}{cells}")
    return "\n".join(lines)


def learning_text(run: RunDir, tables: dict[tuple[str, str], dict[str, Any]]) -> str:
    """Return how far the training reward rose, and how much of the held-out rise a ban of "unknown"
    gives without training."""
    totals = [row["reward_total_mean"] for row in run.rows("metrics.jsonl")]
    first, last = mean(totals[:ENDS]), mean(totals[-ENDS:])
    before, after = (reward(tables, stage) for stage in ("sft", "grpo"))
    banned = reward(tables, "sft_no_hedge")
    rise = after - before
    share = f"{(banned - before) / rise:z.0%}" if rise > 0 else "no rise, so no share"
    return (
        f"training reward: first {ENDS} steps {first:.3f}, last {ENDS} steps {last:.3f} ({last / first:.2f} x)\n"
        f"held-out reward: {before:.3f} after SFT, {after:.3f} after GRPO; of the rise, only un-hedging: {share}"
    )
