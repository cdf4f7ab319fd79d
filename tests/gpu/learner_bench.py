"""The learner's numbers at real size: random weights of a published shape, one device, no files.

    python -m tests.gpu.learner_bench [--shape 7B|3B|tiny] [--device cuda|cpu] [--budget-s 420]
        [--only micro,host,vision,logits,lora,trl,attention,deepspeed]

Times are medians of five runs after three warm-ups, by CUDA events; on a CPU one run by the host's
clock, to try the script. A section that fails is recorded and the others go on; one that would
begin after --budget-s is left out. Sections: learner_sections.py (whole passes), trl_section.py and
kernel_sections.py (parts)."""

from __future__ import annotations

import gc
import sys
import time

from tests.gpu.results import Results, arguments, sections

# deepspeed is last because it keeps the policy
SECTIONS = (
    "ceilings",
    "micro",
    "host",
    "vision",
    "logits",
    "lora",
    "trl",
    "attention",
    "deepspeed",
)


def main(argv: list[str] | None = None) -> int:
    """Run the sections; return 1 when one failed."""
    begin = time.monotonic()
    asked = arguments(__doc__, argv, budget_s=420.0)
    names = sections(asked, SECTIONS)
    sys.modules.setdefault("vllm", None)  # type: ignore[arg-type]  # TRL would import it

    from tests.gpu import kernel_sections, learner_sections, trl_section
    from tests.gpu.learner_load import Load

    results = Results("learner_bench", asked)
    load = Load(asked.shape, results)
    functions = vars(learner_sections) | vars(kernel_sections) | vars(trl_section)
    for name in dict.fromkeys(("ceilings", *names)):  # the others are shares of the ceiling
        with results.guard(name, "failed"):
            if time.monotonic() > begin + asked.budget_s:
                raise TimeoutError(f"left out: {asked.budget_s:g} s are used up")
            functions[name](load)
        gc.collect()
        load.gpu.empty_cache()
    return int(results.finish())


if __name__ == "__main__":
    sys.exit(main())
