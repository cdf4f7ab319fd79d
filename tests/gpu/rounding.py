"""What bfloat16 alone makes of log-probabilities: one network beside itself, without an engine.

    python -m tests.gpu.rounding [--device cuda|cpu] [--model smollm2] [--prompts 4] [--group 4]
        [--tokens 96] [--temperature 0.7]

A text model with trained weights, and its architecture with the random, peaked weights that the
other scripts use. Each samples in bfloat16, token by token as an engine does; the same tokens then
go through it in one pass as through a learner. Gaps are absolute differences of log-probabilities
in nats: `passes`, between the two ways in bfloat16; `format`, of the whole pass to the same in
float32; `fp32_head`, of the two ways where only the head's product is in float32."""

from __future__ import annotations

import copy
import math
import sys
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, AutoTokenizer

from geoagent_rl.grpo.logprobs import selective_logprobs
from geoagent_rl.rewards.judge_models import judge_checkpoint
from tests.gpu.gaps import gaps
from tests.gpu.random_weights import WEIGHT_SCALE, peaked_norm
from tests.gpu.results import Results, arguments

QUESTIONS = (
    "Which country has the most lakes, and why?",
    "Describe a street in Lisbon to somebody who has never been there.",
    "How can one tell from a photograph that it was taken in Japan?",
    "What do road signs look like in Norway and in Mexico?",
    "Name three cities on the Danube and one sight of each.",
    "Why do houses in Iceland have bright roofs?",
    "Explain how to find north without a compass.",
    "Which plants tell that a place is near the Mediterranean?",
)


def main(argv: list[str] | None = None) -> int:
    """Compare both kinds of weights; return 1 where that failed."""
    asked = arguments(
        __doc__, argv, model="smollm2", prompts=4, group=4, tokens=96, temperature=0.7, seed=0
    )
    results = Results("rounding", asked)
    path, _ = judge_checkpoint(asked.model, on_cpu=True)
    tokenizer = AutoTokenizer.from_pretrained(path)
    prompts = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": question}], add_generation_prompt=True
        )["input_ids"]
        for question in QUESTIONS[: asked.prompts]
    ]
    trained = AutoModelForCausalLM.from_pretrained(path, dtype=torch.bfloat16).to(asked.device)
    for case, network in (("trained", trained), ("random", peaked(trained, asked.temperature))):
        with results.guard("rounding", case):
            ends = tokenizer.eos_token_id if case == "trained" else None
            results.record("rounding", case, **compared(network, prompts, ends, asked))
    return int(results.finish())


def peaked(network: Any, temperature: float) -> Any:
    """Return a network of the same architecture with weights as random_weights.py makes them."""
    config = copy.deepcopy(network.config)
    config.initializer_range = WEIGHT_SCALE / math.sqrt(config.hidden_size)
    torch.manual_seed(0)
    with torch.device(network.device):
        made = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    made.model.norm.weight.data.fill_(peaked_norm(config.vocab_size, temperature))
    return made.eval()


@torch.inference_mode()
def compared(network: Any, prompts: list[list[int]], end: int | None, asked: Any) -> dict[str, Any]:
    """Return the gaps over completions of every prompt, and how surprising their tokens are."""
    exact = copy.deepcopy(network).float()
    weight, temperature = network.lm_head.weight, asked.temperature
    ways: dict[str, list[list[float]]] = {}
    torch.manual_seed(asked.seed)
    for prompt in prompts:
        ids, stepwise, used = sampled(network, prompt, end, asked)
        begin = len(prompt) - 1
        whole = network.model(ids).last_hidden_state[:, begin:-1]
        of_exact = exact.model(ids).last_hidden_state[:, begin:-1]
        targets = ids[:, begin + 1 :]

        def logprobs(hidden: Tensor, head: Any, targets: Tensor = targets) -> Tensor:
            flat = hidden.flatten(0, 1)
            found, _ = selective_logprobs(flat, head, targets.flatten(), len(weight), temperature)
            return found.view(targets.shape)

        def float_head(hidden: Tensor) -> Tensor:
            return F.linear(hidden.float(), weight.float())

        found = {
            "stepwise": logprobs(stepwise, network.lm_head),
            "whole": logprobs(whole, network.lm_head),
            "exact": logprobs(of_exact, exact.lm_head),
            "stepwise, float32 head": logprobs(stepwise, float_head),
            "whole, float32 head": logprobs(whole, float_head),
        }
        for way, values in found.items():
            ways.setdefault(way, []).extend(
                row[:n].tolist() for row, n in zip(values, used, strict=True)
            )
    every = sum(ways["exact"], [])
    return {
        "passes": gaps(ways["stepwise"], ways["whole"]),
        "format": gaps(ways["whole"], ways["exact"]),
        "fp32_head": gaps(ways["stepwise, float32 head"], ways["whole, float32 head"]),
        "mean_logprob": sum(every) / len(every),
    }


def sampled(
    network: Any, prompt: list[int], end: int | None, asked: Any
) -> tuple[Tensor, Tensor, list[int]]:
    """Return (prompts and completions [N, P + T], hidden states that the T tokens were drawn from
    [N, T, H], tokens of each completion up to `end`)."""
    ids = torch.tensor([prompt] * asked.group, device=network.device)
    new, cache, states = ids, None, []
    for _ in range(asked.tokens):
        out = network.model(new, past_key_values=cache, use_cache=True)
        states.append(out.last_hidden_state[:, -1])
        cache = out.past_key_values
        shares = (network.lm_head(states[-1]).float() / asked.temperature).softmax(-1)
        new = torch.multinomial(shares, 1)
        ids = torch.cat([ids, new], 1)
    completions = ids[:, len(prompt) :].tolist()
    used = [row.index(end) + 1 if end in row else len(row) for row in completions]
    return ids, torch.stack(states, 1), used


if __name__ == "__main__":
    sys.exit(main())
