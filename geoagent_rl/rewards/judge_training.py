"""Training of small judges: questions and answers as the agent sees them, batches, loss, and what a
trained judge says and how sure it is.

`tiny/judge_build.py` makes the tiny judge of it, `rewards/distil.py` judges of recorded verdicts.
May know torch; nothing of where examples come from."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from geoagent_rl.rewards.consistency_prompt import answer, constant_parts, question, read_answer
from geoagent_rl.rewards.services import JudgeItem
from geoagent_rl.terminal import say

Pair = tuple[list[int], list[int]]  # token ids of a prompt and of its answer
BATCH = 32
AT_ONCE = 100  # questions that are answered together
ANSWER_TOKENS = 64  # at most; the longest conclusion has 48 characters
REPORT_EVERY = 100  # steps


@dataclass(frozen=True)
class Said:
    """What a judge answers: its conclusion (None: not of the agreed form), the mean
    log-probability of the answer's tokens and their sum, nats.
    """

    conclusion: str | None
    logprob: float
    total: float


def prompt_ids(tokenizer: Any, items: Iterable[JudgeItem]) -> Iterator[list[int]]:
    """Yield the ids of each question, in the very form in which the agent asks."""
    head, tail = constant_parts(tokenizer)
    for item in items:
        asked = tokenizer(question(item), add_special_tokens=False, split_special_tokens=True)
        yield [*head, *asked["input_ids"], *tail]


def encode(tokenizer: Any, examples: Sequence[tuple[JudgeItem, str]]) -> list[Pair]:
    """Return the ids of each example (question, conclusion)."""
    asked = prompt_ids(tokenizer, (item for item, _ in examples))
    answers = (
        [*tokenizer(answer(name), add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
        for _, name in examples
    )
    return list(zip(asked, answers, strict=True))


def batches(pairs: Sequence[Pair], seed: int) -> Iterator[list[Pair]]:
    """Yield batches of similar length, in random order within stretches of 16."""
    shuffle = random.Random(seed).shuffle
    for start in range(0, len(pairs), 16 * BATCH):
        stretch = sorted(
            pairs[start : start + 16 * BATCH], key=lambda pair: len(pair[0]) + len(pair[1])
        )
        cut = [stretch[i : i + BATCH] for i in range(0, len(stretch), BATCH)]
        shuffle(cut)
        yield from cut


def answer_logits(
    model: Any, batch: Sequence[Pair], pad: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return logits [tokens, vocabulary] and targets [tokens] of the answers' tokens, and the row
    of each.
    """
    length = max(len(a) + len(b) for a, b in batch)
    ids, targets = torch.full((len(batch), length), pad), torch.full((len(batch), length), -1)
    for i, (asked, answered) in enumerate(batch):
        ids[i, : len(asked) + len(answered)] = torch.tensor([*asked, *answered])
        targets[i, len(asked) : len(asked) + len(answered)] = torch.tensor(answered)
    ids, targets = ids.to(model.device), targets.to(model.device)
    hidden, targets = model.model(ids).last_hidden_state[:, :-1], targets[:, 1:]
    kept = targets >= 0
    return model.lm_head(hidden[kept]), targets[kept], kept.nonzero()[:, 0]


def fit(model: Any, work: Sequence[Sequence[Pair]], pad: int, rate: float) -> None:
    """Train all weights on these batches (three at least), one step each; rate: the highest
    learning rate.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.98), weight_decay=0.01)
    rise = max(0.05, 3 / len(work))  # of the steps; OneCycleLR cannot rise in less than two
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, rate, total_steps=len(work), pct_start=rise
    )
    model.train()
    for step, batch in enumerate(work, 1):
        logits, targets, _ = answer_logits(model, batch, pad)
        loss = cross_entropy(logits, targets)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % REPORT_EVERY == 0:
            say(f"step {step} of {len(work)}: loss {loss.item():.3f}")
    model.eval()


@torch.no_grad()
def accuracy(model: Any, pairs: Sequence[Pair], pad: int) -> float:
    """Return the share of answers whose every token is the most likely one."""
    right = 0
    for start in range(0, len(pairs), AT_ONCE):
        batch = pairs[start : start + AT_ONCE]
        logits, targets, rows = answer_logits(model, batch, pad)
        right += len(batch) - len(set(rows[logits.argmax(-1) != targets].tolist()))
    return right / len(pairs)


@torch.no_grad()
def answers(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, items: Sequence[JudgeItem]
) -> list[Said]:
    """Return what the judge answers at temperature 0, one per item, in order; without a grammar."""
    asked = list(prompt_ids(tokenizer, items))
    order = sorted(range(len(asked)), key=lambda i: len(asked[i]))
    found: dict[int, Said] = {}
    for start in range(0, len(order), AT_ONCE):
        some = order[start : start + AT_ONCE]
        found |= dict(zip(some, _answer(model, tokenizer, [asked[i] for i in some]), strict=True))
    return [found[i] for i in range(len(items))]


def _answer(model: Any, tokenizer: Any, asked: Sequence[list[int]]) -> list[Said]:
    length, pad = max(map(len, asked)), tokenizer.pad_token_id
    ids = torch.tensor([[pad] * (length - len(row)) + row for row in asked], device=model.device)
    mask = torch.tensor(
        [[0] * (length - len(row)) + [1] * len(row) for row in asked], device=model.device
    )
    made = model.generate(
        input_ids=ids,
        attention_mask=mask,
        do_sample=False,
        max_new_tokens=ANSWER_TOKENS,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=pad,
        output_scores=True,
        return_dict_in_generate=True,
    )
    logprobs = model.compute_transition_scores(made.sequences, made.scores, normalize_logits=True)
    said = []
    for tokens, row in zip(made.sequences[:, length:].tolist(), logprobs.tolist(), strict=True):
        ended = tokenizer.eos_token_id in tokens
        end = tokens.index(tokenizer.eos_token_id) + 1 if ended else len(tokens)
        text = tokenizer.decode(tokens[: end - ended], skip_special_tokens=False)
        said.append(Said(_read(text), sum(row[:end]) / end, sum(row[:end])))
    return said


def _read(text: str) -> str | None:
    try:
        return read_answer(text)
    except ValueError:
        return None
