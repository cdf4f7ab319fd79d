"""How fast is the rollout actor beside a bare vLLM `LLM.generate`, and how long does a weight swap
take?

    python -m tests.benchmarks.rollout [--model DIR] [--rounds 5] [--prompts 16] [--group 8]
                                       [--tokens 96]

Both engines run in the same run, in turns, on fresh pictures each round, with the same sampling
settings; the actor is the real one (Ray, streaming, one message for each completion). Prints one
JSON object. Without --model: a random tiny Qwen2.5-VL. Only one engine works at a time, so the
cores should be otherwise idle."""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from pathlib import Path

import ray
from PIL import Image

from actors.remote_rollout import RemoteRollout
from actors.rollout import RolloutEngine
from actors.vllm_engine import rollout_engine_args, set_environment
from geoagent_rl.config import Config
from geoagent_rl.types import PolicyVersion, Prompt, Sampling, Truth
from tests.support import tiny_random


def settings(arguments: argparse.Namespace) -> Config:
    config = Config()
    config.rollout.swap, config.rollout.max_tokens = "merged", arguments.tokens
    config.rollout.max_model_len, config.rollout.memory = 1024, 0.5
    config.policy.max_pixels = 84 * 84
    return config


async def actor_round(engine: RemoteRollout, prompts: list[Prompt], group: int) -> float:
    """Tokens per second of the actor, groups concurrent as in a training step."""

    async def one(prompt: Prompt) -> int:
        return sum(
            [
                len(rollout.completion_ids)
                async for rollout in engine.generate(prompt, Sampling(group, seed=1))
            ]
        )

    start = time.perf_counter()
    tokens = sum(await asyncio.gather(*(one(prompt) for prompt in prompts)))
    return tokens / (time.perf_counter() - start)


class Bare:
    """vLLM's `LLM` on the same checkpoint, prompts and sampling settings."""

    def __init__(self, config: Config, model: str) -> None:
        set_environment(cpu=True)
        from vllm import LLM, SamplingParams

        from geoagent_rl.policy.prompt import (
            banned_ids,
            image_budget,
            load_processor,
            prompt_text,
        )

        processor = load_processor(model)
        args = rollout_engine_args(config, model, image_budget(processor, config.policy.max_pixels))
        args.pop("enable_log_requests")
        self.llm = LLM(**args)
        self.text = prompt_text(processor, config.policy.system_prompt)
        self.bans = {token: -100.0 for token in banned_ids(processor)}
        self.make, self.config = SamplingParams, config

    def round(self, prompts: list[Prompt], group: int, seeded: bool = True) -> float:
        params = self.make(
            n=group,
            temperature=self.config.rollout.temperature,
            max_tokens=self.config.rollout.max_tokens,
            logprobs=0,
            logit_bias=self.bans,
            seed=1 if seeded else None,
        )
        start = time.perf_counter()
        requests = []
        for prompt in prompts:
            with Image.open(prompt.image) as image:
                requests.append(
                    {"prompt": self.text, "multi_modal_data": {"image": image.convert("RGB")}}
                )
        outputs = self.llm.generate(requests, params, use_tqdm=False)
        tokens = sum(
            len(completion.token_ids) for output in outputs for completion in output.outputs
        )
        return tokens / (time.perf_counter() - start)


async def measure(arguments: argparse.Namespace, folder: Path) -> dict:
    config = settings(arguments)
    models = [
        tiny_random.build(folder / f"model{i}", seed=i, hidden=128, layers=3) for i in range(2)
    ]
    models[0] = arguments.model or models[0]
    actor = ray.remote(RolloutEngine).options(num_cpus=1).remote(config, models[0])
    started = await actor.start.remote()
    engine = RemoteRollout(actor, 600)
    bare = Bare(config, models[0])
    rates: dict[str, list[float]] = {"actor": [], "bare": [], "bare_unseeded": []}
    for number in range(arguments.rounds + 1):  # the first one warms up
        prompts = []
        for i in range(arguments.prompts):
            name = f"{number}-{i}"
            path = tiny_random.picture(folder / f"{name}.png", seed=1000 * number + i)
            prompts.append(Prompt(name, path, Truth("", "", "", 0.0, 0.0)))
        found = {
            "actor": await actor_round(engine, prompts, arguments.group),
            "bare": bare.round(prompts, arguments.group),
            "bare_unseeded": bare.round(prompts, arguments.group, seeded=False),
        }
        if number:
            for key, value in found.items():
                rates[key].append(value)
    swaps = []
    if not arguments.model:
        for number in range(5):
            swaps.append(
                await engine.swap(PolicyVersion(number + 1, "checkpoint", models[(number + 1) % 2]))
            )
    await actor.stop.remote()
    middle = {
        f"{key}_tokens_per_s": round(statistics.median(values), 1) for key, values in rates.items()
    }
    ratio = statistics.median(a / b for a, b in zip(rates["actor"], rates["bare"], strict=True))
    return {
        **middle,
        "ratio": round(ratio, 3),
        "engine_start_s": round(started, 1),
        "swap_s": round(statistics.median(swaps), 3) if swaps else None,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="")
    for name, value in {"rounds": 5, "prompts": 16, "group": 8, "tokens": 96}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
        try:
            print(json.dumps(asyncio.run(measure(arguments, Path(folder)))))
        finally:
            ray.shutdown()


if __name__ == "__main__":
    main()
