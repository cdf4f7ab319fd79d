"""What is measured on a real GPU, in one process and without Ray: see docs/gpu.md.

    python -m tests.gpu.engine_cycle    engine, sleep, learner, adapter swap
    python -m tests.gpu.learner_bench   the learner at real size, beside TRL's loss
    python -m tests.gpu.judge           the judge's verdicts on GPTQ kernels
    python -m tests.gpu.rounding        what bfloat16 alone makes of log-probabilities
    python -m tests.gpu.report FILE...  docs/gpu.md from what these wrote

Each takes less than 8 minutes on one card, says "skipped" where there is no CUDA, and runs small
everywhere with `--shape tiny --device cpu`. Imports neither ray, redis nor geopy, and nothing that
is newer than vLLM 0.26: machines with a GPU do not always have what constraints.txt pins."""
