"""What a cold start shows of a manifest: its chains of thought, in the form of the answer."""

from __future__ import annotations

from collections.abc import Sequence

from geoagent_rl.answers.forms import read
from geoagent_rl.answers.parse import parse
from geoagent_rl.answers.rewrite import rewritten
from geoagent_rl.data.sample import Sample
from geoagent_rl.geo.gazetteer import Gazetteer
from geoagent_rl.sft import Demonstration
from geoagent_rl.types import AnswerForm


def demonstrations(samples: Sequence[Sample], form: AnswerForm) -> list[Demonstration]:
    """Return what the policy is to imitate: the chains of thought, in the form of its answers.

    A chain of the paper's form is rewritten for another one; its position is where the gazetteer
    has its own answer, else the photograph's. One that leaves open what the form asks for is left
    out."""
    told = [(sample, sample.cot) for sample in samples if sample.cot]
    if form != "levels":
        gazetteer = Gazetteer.open()
        told = [(sample, in_form(sample, form, gazetteer)) for sample, _ in told]
    return [Demonstration(sample.uid, sample.image, text) for sample, text in told if text]


def in_form(sample: Sample, form: AnswerForm, gazetteer: Gazetteer) -> str:
    """Return a sample's chain of thought in an answer form, "" where it says too little."""
    if read(sample.cot, form).format_ok:
        return sample.cot
    match = gazetteer.geocode(*parse(sample.cot).levels)
    point = (match.lat, match.lon) if match else (sample.lat, sample.lon)
    return rewritten(sample.cot, form, point)
