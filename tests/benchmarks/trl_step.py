"""How long is one GRPO step beside TRL's GRPOTrainer on the same cores?

    python -m tests.benchmarks.trl_step [--steps 8] [--tokens 64] [--groups 8] [--group 8]
                                        [--side 112]
                                        [--engines 1] [--ranks 1] [--threads 1] [--seqs 64]

Both train the demo's tiny policy (random weights; LoRA r=64 on the same layers, KL 0.001,
temperature 0.7, AdamW) on the same pictures, prompts and rewards, with the end tokens banned so
that every completion has --tokens tokens. Ours is the real driver on real actors: vLLM in one
process, the learner in another, new weights swapped in after every step. TRL generates with
transformers' `generate` (its default; its vLLM mode needs a GPU) and takes its whole batch as one
micro-batch, or as four, or as one with two threads; the quickest of these counts. Ours runs before
and after TRL, with --engines engines, each with at most --seqs completions at a time, and --ranks
learner processes of --threads threads. --side: of a picture in pixels, 112 for the 16 image tokens
of the demo's scenes, 420 for the 225 of a small photograph.
Needs idle cores: threads that wait for each other take many times as long beside other work. Prints
one JSON object; the first step of every run warms up."""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault(
    "OMP_NUM_THREADS", "1"
)  # of each of our processes; TRL's threads are set below
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault(
    "RAY_worker_niceness", "0"
)  # Ray's default, 15, would let everything else go first

import ray
import torch
from PIL import Image

from actors.learner_group import LearnerGroup
from actors.remote_rollout import RemoteRollout
from actors.rollout import RolloutEngine
from geoagent_rl import driver
from geoagent_rl.config import Config
from geoagent_rl.grpo.schedule import grpo_phase
from geoagent_rl.policy.prompt import QUESTION, SYSTEM_PROMPTS, banned_ids, load_processor
from geoagent_rl.tiny import policy as tiny
from geoagent_rl.types import Outcome, Prompt, Sampling, ScoredRollout, Truth
from tests.benchmarks.shapes import demo_policy
from tests.support import tiny_random


def settings(arguments: argparse.Namespace) -> Config:
    c = Config(steps=arguments.steps + 1)
    c.rollout.group_size, c.rollout.prompts_per_step = arguments.group, arguments.groups
    c.rollout.max_tokens, c.rollout.max_model_len, c.rollout.swap = arguments.tokens, 512, "merged"
    c.rollout.max_num_seqs, c.rollout.memory = arguments.seqs, 0.5
    c.learner.lr, c.learner.kl_beta = 1e-4, 0.001
    c.rollout.engines, c.learner.ranks, c.learner.cpus_per_rank = (
        arguments.engines,
        arguments.ranks,
        arguments.threads,
    )
    return c


def reward(text: str) -> float:
    """Anything cheap that differs between completions."""
    return text.count("a") / (1 + len(text))


class Engine(RemoteRollout):
    """A rollout actor as the driver takes it, that bans the end tokens and is expected to live."""

    up, under_way = True, 0

    def __init__(self, actor, ends: tuple[int, ...]) -> None:
        super().__init__(actor, 600)
        self.ends = ends

    def generate(self, prompt: Prompt, sampling: Sampling):
        return super().generate(prompt, dataclasses.replace(sampling, banned=self.ends))

    async def ready(self) -> None:
        pass

    async def answers(self) -> bool:
        return True

    def failed(self, problem: Exception) -> None:
        raise problem


class Ours:
    """Engines and learner as actors, the driver in this process. The driver's scorer too."""

    def __init__(
        self, config: Config, model: str, prompts: list[Prompt], ends: tuple[int, ...]
    ) -> None:
        self.config, self.model, self.prompts, self.ends = config, model, prompts, ends

    async def __aenter__(self) -> Ours:
        actor = ray.remote(RolloutEngine).options(num_cpus=1, max_concurrency=1000)
        actors = [actor.remote(self.config, self.model) for _ in range(self.config.rollout.engines)]
        await asyncio.gather(*(a.start.remote() for a in actors))
        self.engines = [Engine(a, self.ends) for a in actors]
        phase = grpo_phase(self.config)
        self.learner = await LearnerGroup.start(self.config, self.model, phase, True, "learner")
        return self

    async def __aexit__(self, *_) -> None:
        await self.learner.stop()
        for engine in self.engines:
            await engine.end()

    async def score(self, prompt: Prompt, rollout) -> ScoredRollout:
        value = reward(rollout.text)
        return ScoredRollout(rollout, {"format": Outcome("score", value)}, value)

    async def steps(self) -> list[dict]:
        rows = []

        async def on_step(step, metrics, groups) -> None:
            rows.append(metrics)

        await driver.train(
            self.config,
            lambda i: self.prompts[i % len(self.prompts)],
            self.engines,
            self,
            self.learner,
            on_step,
        )
        wanted = (
            self.config.rollout.prompts_per_step
            * self.config.rollout.group_size
            * self.config.rollout.max_tokens
        )
        assert all(row["train_tokens"] == wanted for row in rows)
        return rows[1:]


def trl_settings(c: Config, micro: int, suppressed: list[int], folder: str):
    import trl

    return trl.GRPOConfig(
        output_dir=folder,
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=c.rollout.group_size * c.rollout.prompts_per_step // micro,
        num_generations=c.rollout.group_size,
        max_completion_length=c.rollout.max_tokens,
        max_steps=c.steps,
        temperature=c.rollout.temperature,
        beta=c.learner.kl_beta,
        learning_rate=c.learner.lr,
        loss_type="grpo",
        generation_kwargs={"suppress_tokens": suppressed},
        model_init_kwargs={"dtype": "float32"},
        gradient_checkpointing=False,
        bf16=False,
        use_cpu=True,
        report_to=[],
        logging_strategy="no",
        save_strategy="no",
        disable_tqdm=True,
    )


def trl_seconds(
    c: Config, model: str, prompts: list[Prompt], ends: list[int], micro: int, folder: str
) -> list[float]:
    """Wall time of TRL's steps; micro: completions in a micro-batch."""
    import trl
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import PrinterCallback, TrainerCallback

    processor = load_processor(model)
    rows, pictures = prompts * c.steps, []
    for prompt in rows:
        with Image.open(prompt.image) as image:
            pictures.append(image.convert("RGB"))
    conversation = [
        {"role": "system", "content": SYSTEM_PROMPTS["tiny"]},
        {"role": "user", "content": QUESTION},
    ]
    seconds: list[float] = []

    class Clock(TrainerCallback):
        """TRL generates inside the step, when it prepares its first micro-batch."""

        def on_step_begin(self, *_, **__) -> None:
            self.start = time.perf_counter()

        def on_step_end(self, *_, **__) -> None:
            seconds.append(time.perf_counter() - self.start)

    trainer = trl.GRPOTrainer(
        model=model,
        reward_funcs=lambda completions, **_: [
            reward(turns[-1]["content"]) for turns in completions
        ],
        args=trl_settings(c, micro, [*banned_ids(processor), *ends], folder),
        train_dataset=Dataset.from_dict({"prompt": [conversation] * len(rows), "image": pictures}),
        processing_class=processor.own,
        peft_config=LoraConfig(
            r=c.policy.lora_rank,
            lora_alpha=c.policy.lora_alpha,
            target_modules=processor.family.lora_targets,
            exclude_modules=processor.family.lora_excluded,
            task_type="CAUSAL_LM",
        ),
        callbacks=[Clock()],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    assert float(trainer.state.log_history[-1]["completions/mean_length"]) == c.rollout.max_tokens
    return seconds[1:]


def summary(rows: list[dict]) -> dict[str, float]:
    names = (
        "step_seconds",
        "rollout_busy_seconds",
        "learn_busy_seconds",
        "swap_seconds",
        "learn_seconds",
    )
    return {name: round(statistics.median(row[name] for row in rows), 3) for name in names}


async def measure(arguments: argparse.Namespace, folder: Path) -> dict:
    size = (arguments.side, arguments.side)
    model = demo_policy(folder / "model", tiny.Recipe(image_pixels=arguments.side**2))
    config = settings(arguments)
    tokenizer = load_processor(model).tokenizer
    ends = (tokenizer.eos_token_id, tokenizer.pad_token_id)
    prompts = []
    for i in range(arguments.groups):
        path = tiny_random.picture(folder / f"{i}.png", i, size)
        prompts.append(Prompt(str(i), path, Truth("", "", "", 0.0, 0.0)))
    theirs = {}
    async with Ours(config, model, prompts, ends) as ours:
        before = await ours.steps()
        print(json.dumps({"ours, first half": summary(before)}), file=sys.stderr)
        completions = arguments.groups * arguments.group
        for threads, micro in ((1, completions), (1, completions // 4), (2, completions)):
            torch.set_num_threads(threads)
            found = trl_seconds(config, model, prompts, list(ends), micro, str(folder / "trl"))
            theirs[f"{threads} threads, micro-batch {micro}"] = round(statistics.median(found), 3)
            print(json.dumps(theirs), file=sys.stderr)
        rows = before + await ours.steps()
    best = min(theirs.values())
    ratio = statistics.median(row["step_seconds"] for row in rows) / best
    return {
        "ours": summary(rows),
        "trl_step_seconds": theirs,
        "trl_best": best,
        "ratio": round(ratio, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    sizes = {"steps": 8, "tokens": 64, "groups": 8, "group": 8, "side": 112}
    for name, value in (sizes | {"engines": 1, "ranks": 1, "threads": 1, "seqs": 64}).items():
        parser.add_argument(f"--{name}", type=int, default=value)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False)
        try:
            print(json.dumps(asyncio.run(measure(arguments, Path(folder)))))
        finally:
            ray.shutdown()


if __name__ == "__main__":
    main()
