"""Does the judge on a GPU's GPTQ kernels give the verdicts that it gives on a CPU?

    python -m tests.gpu.judge [--device cuda|cpu] [--questions 10] [--judge tiny]

Asks the tiny judge (`judge.model=tiny`, GPTQ-INT4 in groups of 32: Marlin on a GPU) questions of
which the project's own tests demand that on a CPU 95 % are answered as they are meant, and records
every answer, so that two machines' files can be compared."""

from __future__ import annotations

import asyncio
import os
import sys
import time

from tests.gpu.results import ROOT, Results, arguments

SEED = 1001  # of the questions: the same ones on every machine


def main(argv: list[str] | None = None) -> int:
    asked = arguments(__doc__, argv, questions=10, judge="tiny")
    os.environ.setdefault("VLLM_WORKER_MULTIPROC_METHOD", "spawn")
    from actors.vllm_engine import set_environment

    set_environment(cpu=asked.device == "cpu")
    results = Results("judge", asked)
    with results.guard("judge", asked.judge):
        asyncio.run(ask(results, asked.judge, asked.questions))
    return int(results.finish())


async def ask(results: Results, model: str, questions: int) -> None:
    from actors.consistency_agent import ConsistencyAgent
    from geoagent_rl.config import load
    from geoagent_rl.tiny.judge_examples import examples

    file = ROOT / "configs" / f"{'single-gpu' if results.cuda else 'local'}.yaml"
    config = load(file, [f"judge.model={model}"])
    made = examples(questions, seed=SEED, foreign=0.0, other_phrasing=0.0)
    begin = time.monotonic()
    agent = ConsistencyAgent(config.judge)
    try:
        kind = agent.engine.vllm_config.model_config.quantization
        results.record("start", "judge", start_s=time.monotonic() - begin, quantization=kind)
        begin = time.monotonic()
        verdicts = await agent.judge([item for item, _ in made])
        seconds = time.monotonic() - begin
        answers = [(v.conclusion, meant) for v, (_, meant) in zip(verdicts, made, strict=True)]
        right = sum(a == b for a, b in answers)
        row = {"of": len(made), "right": right, "seconds": seconds, "answers": answers}
        results.record("judge", model, **row)
    finally:
        agent.stop()


if __name__ == "__main__":
    sys.exit(main())
