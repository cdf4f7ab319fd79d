"""One completion by plain transformers, for `predict` and small checks. Training and evaluation use
the engine.
"""

from __future__ import annotations

import torch
from PIL import Image

from geoagent_rl.policy.model import Policy
from geoagent_rl.policy.prompt import QUESTION, Processor, banned_ids, encode, end_id

SMALL_VOCABULARY = 10_000  # tokens; only tiny policies have fewer


@torch.inference_mode()
def generate(
    policy: Policy,
    processor: Processor,
    image: Image.Image,
    system: str = "",
    max_tokens: int = 1024,
    temperature: float = 0.0,
    seed: int = 0,
    max_pixels: int = 200_000,
    question: str = QUESTION,
) -> str:
    """Return the policy's answer to one photograph (PIL RGB), without special tokens. temperature 0
    is greedy.

    system: "tiny", "full" or a text; empty chooses by the checkpoint's vocabulary.
    """
    tokenizer = processor.tokenizer
    system = system or ("tiny" if len(tokenizer) < SMALL_VOCABULARY else "full")
    prompt = encode(processor, image, system, max_pixels, question)
    network = policy.network.eval()
    device = network.lm_head.weight.device
    ids = torch.tensor([prompt.ids], device=device)
    torch.manual_seed(seed)
    sampling = (
        {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0}
        if temperature > 0
        else {}
    )
    out = network.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        **policy.family.picture_inputs(
            ids, prompt.pixel_values.to(device), prompt.image_grid_thw, network.config
        ),
        max_new_tokens=max_tokens,
        suppress_tokens=list(banned_ids(processor)),
        eos_token_id=end_id(processor),
        pad_token_id=tokenizer.pad_token_id,
        **({"do_sample": False} | sampling),
    )
    return str(tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True))
