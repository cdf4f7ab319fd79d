"""Build the tiny judge (geoagent_rl/assets/tiny_judge): trains a small Qwen3 on `judge_examples`
and quantises it.

It needs GPTQModel 7.7, whose own requirements clash with vLLM's, so it goes into a directory of its
own:

    pip install --no-deps --target DIR gptqmodel==7.7.0 defuser device-smi logbar pypcre tokenicer
    PYTHONPATH=DIR GPTQMODEL_CPU_WORKERS=2 python -m geoagent_rl.tiny.judge_build

Run it again when the scenes' phrases or the judge's prompt change (a test compares their
fingerprint with the asset's). May know nothing of engines."""

from __future__ import annotations

import hashlib
import importlib
import json
import re
import shutil
import tempfile
from collections import Counter
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from geoagent_rl.rewards.consistency_prompt import EXAMPLES, SYSTEM, answer, messages, question
from geoagent_rl.rewards.judge_models import TINY
from geoagent_rl.rewards.judge_training import BATCH, Pair, accuracy, batches, encode, fit
from geoagent_rl.rewards.services import LEVELS
from geoagent_rl.tiny.judge_examples import examples, world_names
from geoagent_rl.tiny.scene_text import phrases
from geoagent_rl.tiny.scene_world import places
from geoagent_rl.tiny.tokenizer import CHAT_TEMPLATE, IM_END, PAD, SPECIAL_TOKENS, byte_symbols

WORDS = r"| ?\p{L}+| ?\p{N}| ?[^\s\p{L}\p{N}]|\s"
FILES = (
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
)
NAME_TOKENS = 1500  # pieces of names, from the names of the whole world
# steps with the scenes' names, then with those of the whole world too
RATE, EASY, HARD = 3e-3, 300, 1500


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer: one token for each constant of the prompt, each name of the scenes and
    each common word; pieces for other names.

    A name has the same tokens wherever it stands (the blank before it is apart), so that concluding
    is copying."""
    frame = [
        "system\n",
        "user\n",
        "assistant\n",
        SYSTEM,
        '{"conclusion": "',
        '"}',
        '", "',
        '], "reasoning": "',
    ]
    frame += [f'{{"stage": "{level}", "earlier": [' for level in LEVELS]
    frame += [
        text for item, conclusion in EXAMPLES for text in (question(item), answer(conclusion))
    ]
    names = sorted(scene_names())
    whole = sorted({*frame, *names}, key=lambda text: (-len(text), text))
    pattern = "|".join(re.escape(text) for text in whole)
    split = pre_tokenizers.Split(Regex(pattern), "isolated")
    again = pre_tokenizers.Split(
        Regex(pattern + WORDS), "isolated"
    )  # leaves what is whole as it is
    pieces = pre_tokenizers.Sequence(
        [split, again, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    symbols = byte_symbols()
    vocab, merges = name_pieces(list(symbols.values()))
    counts = Counter(
        word
        for item, _ in examples(3000, seed=100, foreign=0.0)
        for word, _ in pieces.pre_tokenize_str(item.reasoning)
    )
    words = sorted(word for word, count in counts.items() if count >= 20)
    for text in ("".join(symbols[byte] for byte in text.encode()) for text in whole):
        vocab.setdefault(text, len(vocab))
    for word in words:
        vocab.setdefault(word, len(vocab))
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges, ignore_merges=True))
    tokenizer.pre_tokenizer, tokenizer.decoder = pieces, decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=IM_END,
        pad_token=PAD,
        additional_special_tokens=list(SPECIAL_TOKENS),
        clean_up_tokenization_spaces=False,
        model_max_length=4096,
        chat_template=CHAT_TEMPLATE,
    )


def scene_names() -> set[str]:
    """Return the names of the scenes' places, hidden places too: the judge is asked about held-out
    scenes as well.
    """
    return {name for place in (*places(), *places(hidden=True)) for name in place.levels}


def name_pieces(alphabet: list[str]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Return the vocabulary (special tokens, bytes, pieces) and the merges of byte-pair encoding
    learnt on names without blanks.
    """
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    words = sorted({word for names in world_names() for name in names for word in name.split()})
    trainer = trainers.BpeTrainer(
        vocab_size=len(alphabet) + NAME_TOKENS,
        initial_alphabet=sorted(alphabet),
        show_progress=False,
    )
    learner.train_from_iterator(words, trainer)
    merges = [tuple(pair) for pair in json.loads(learner.to_str())["model"]["merges"]]
    vocab = {token: index for index, token in enumerate((*SPECIAL_TOKENS, *alphabet))}
    for left, right in merges:
        vocab.setdefault(left + right, len(vocab))
    return vocab, merges


def make_model(tokenizer: PreTrainedTokenizerFast) -> Qwen3ForCausalLM:
    """Return the untrained judge: a Qwen3 of three layers."""
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=4,
        head_dim=32,
        initializer_range=0.05,
        max_position_embeddings=4096,
        rope_theta=10000.0,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return Qwen3ForCausalLM(config).float()


def train(tokenizer: PreTrainedTokenizerFast) -> Qwen3ForCausalLM:
    """Train on easy examples, then on hard ones: about 5 minutes on one free core."""
    model = make_model(tokenizer)
    pad = tokenizer.pad_token_id
    easy = encode(tokenizer, examples(EASY * BATCH, seed=1, foreign=0.0, other_phrasing=0.2))
    hard = encode(tokenizer, examples(HARD * BATCH, seed=2))
    fit(model, [*batches(easy, 1), *batches(hard, 2)], pad, RATE)
    return model


def held_out(tokenizer: PreTrainedTokenizerFast) -> dict[str, list[Pair]]:
    """Return examples that training has not seen: of the scenes, and with names of the whole
    world."""
    return {
        "scenes": encode(tokenizer, examples(500, seed=11, foreign=0.0, other_phrasing=0.0)),
        "other names": encode(tokenizer, examples(500, seed=12, foreign=1.0, other_phrasing=0.0)),
        "other phrasing": encode(
            tokenizer, examples(500, seed=13, foreign=0.0, other_phrasing=1.0)
        ),
    }


def quantise(model_dir: Path, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """Quantise to GPTQ-INT4 with GPTQModel, calibrated on other examples; groups of 32, as small
    layers need short ones.
    """
    gptq = importlib.import_module("gptqmodel")  # no dependency of the project: see above
    pairs = encode(tokenizer, examples(256, seed=3))
    calibration = [{"input_ids": [*a, *b], "attention_mask": [1] * len(a + b)} for a, b in pairs]
    settings = gptq.QuantizeConfig(
        bits=4, group_size=32, sym=True, desc_act=False, offload_to_disk=False
    )
    model = gptq.GPTQModel.load(str(model_dir), settings, device="cpu")
    model.quantize(calibration, batch_size=16)
    model.save(str(out))


def fingerprint() -> str:
    """Return a hash of all that the judge has been trained to read: phrases, names, prompt."""
    inputs = [phrases(), sorted(scene_names()), messages("{question}")]
    return hashlib.sha256(json.dumps(inputs).encode()).hexdigest()


def install(quantised: Path, scores: dict[str, float], asset: Path) -> None:
    """Copy what engines need, and notes in BUILD.json what it was made from, its hashes and its
    accuracy.
    """
    asset.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        shutil.copy(quantised / name, asset / name)
    config = json.loads((asset / "config.json").read_text())
    config["quantization_config"] = {
        k: v for k, v in config["quantization_config"].items() if k != "meta"
    }
    (asset / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    hashes = {name: hashlib.sha256((asset / name).read_bytes()).hexdigest() for name in FILES}
    note = {
        "made_by": "python -m geoagent_rl.tiny.judge_build",
        "fingerprint": fingerprint(),
        "sha256": hashes,
    }
    note["accuracy_before_quantisation"] = {name: round(share, 4) for name, share in scores.items()}
    (asset / "BUILD.json").write_text(json.dumps(note, indent=1) + "\n")


def main() -> None:
    """Train the judge, quantise it and install it as the asset."""
    tokenizer = make_tokenizer()
    model = train(tokenizer)
    scores = {
        name: accuracy(model, pairs, tokenizer.pad_token_id)
        for name, pairs in held_out(tokenizer).items()
    }
    print(scores)
    with tempfile.TemporaryDirectory() as folder:
        dense, quantised = Path(folder) / "dense", Path(folder) / "quantised"
        model.to(torch.bfloat16).save_pretrained(dense)
        tokenizer.save_pretrained(dense)
        quantise(dense, tokenizer, quantised)
        install(quantised, scores, TINY)


if __name__ == "__main__":
    main()
