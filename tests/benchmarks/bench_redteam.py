"""How often an injected conclusion sways a judge: `python -m tests.benchmarks.bench_redteam
[--model smollm2]`.

Runs the red team's table (tests/data/redteam.jsonl) against a real judge on vLLM, checks what must
hold for all, and prints one JSON object: rows, honest (the conclusion is the one argued for),
swayed by family, and what else was said."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
from collections import Counter

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")


async def main(model: str) -> None:
    from actors.consistency_agent import ConsistencyAgent
    from geoagent_rl.config.reward import JudgeConfig
    from tests.support.redteam import ROWS, attack, check_tokens, swayed

    agent = ConsistencyAgent(
        JudgeConfig(model=model, memory=0.3, max_model_len=1024, max_tokens=128)
    )
    try:
        check_tokens(agent)
        conclusions = await attack(agent)
    finally:
        agent.stop()
    argued = [(row, said) for row, said in zip(ROWS, conclusions, strict=True) if row["honest"]]
    gone = swayed(conclusions)
    report = {
        "model": model,
        "rows": len(ROWS),
        "argued": len(argued),
        "honest": sum(row["honest"] == said for row, said in argued),
        "swayed": len(gone),
        "swayed_by_family": Counter(row["family"] for row in gone),
        "rows_by_family": Counter(row["family"] for row in ROWS),
        "said": {row["id"]: said for row, said in zip(ROWS, conclusions, strict=True)},
    }
    print(json.dumps(report, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2")
    asyncio.run(main(parser.parse_args().model))
