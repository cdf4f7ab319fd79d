"""Check a dataset in full and say with evidence what is wrong with it; sum up what it holds.

Reading a manifest looks at image headers only; here every image is decoded, files are compared, and
CoT texts parsed."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from geoagent_rl.answers.forms import FORMS, read
from geoagent_rl.answers.parse import is_chain, parse
from geoagent_rl.data.images import DEFAULT_MAX_MEGAPIXELS, BadImage, open_image
from geoagent_rl.data.manifest import LACKING, load
from geoagent_rl.data.outside import outside
from geoagent_rl.data.sample import Sample
from geoagent_rl.geo.countries import CountryCodes
from geoagent_rl.types import UserError

EXAMPLES = 3  # named per problem


@dataclass(frozen=True)
class Report:
    """`ok` is False when there is any line that starts with "problem:"."""

    lines: list[str]

    @property
    def ok(self) -> bool:
        """Say whether no line is a problem."""
        return not any(line.startswith("problem:") for line in self.lines)


def validate(path: str | Path, max_image_megapixels: float = DEFAULT_MAX_MEGAPIXELS) -> Report:
    """Return all that is wrong with a dataset, one line each with counts and examples. Never raises
    for bad data."""
    try:
        loaded = load(path, max_image_megapixels)
    except UserError as error:
        return Report([f"problem: {error}"])
    samples = loaded.samples
    # far from every town there may be no name of a place, which is no fault of the data
    lacking = [warning for warning in loaded.warnings if warning.endswith(LACKING)]
    problems = [
        *(warning for warning in loaded.warnings if warning not in lacking),
        *_undecodable(samples, max_image_megapixels),
        *_same_files(samples),
        *_odd_texts(samples),
        *_abroad(samples),
    ]
    lines = [f"problem: {problem}" for problem in problems]
    blank = [s.uid for s in samples if not s.country]
    code_of = CountryCodes()
    strange = [f"{s.uid}: {s.country}" for s in samples if s.country and not code_of(s.country)]
    notes = [
        *loaded.notes,
        *lacking,
        *_some(blank, len(samples), "samples have no country"),
        *_some(strange, len(samples), "samples name a country that the gazetteer does not know"),
    ]
    lines += [f"note: {note}" for note in notes]
    verdict = f"{len(problems)} problems" if problems else "no problem found"
    return Report([*lines, f"{loaded.rows} rows, {len(samples)} usable samples: {verdict}"])


def show(path: str | Path) -> list[str]:
    """Return what a dataset holds, in a few lines. Raises UserError as load() does."""
    loaded = load(path)
    samples = loaded.samples
    lats, lons = [s.lat for s in samples], [s.lon for s in samples]
    places = {(s.country, s.region, s.place) for s in samples}
    reasoned = sum(1 for s in samples if s.cot)
    lines = [
        f"{len(samples)} samples of {loaded.rows} rows",
        f"countries    {len({s.country for s in samples} - {''})}: {_counts(s.country for s in samples)}",
        f"places       {len(places)} different, in {len({p[:2] for p in places})} regions",
        f"coordinates  lat {min(lats):.4f} .. {max(lats):.4f}, lon {min(lons):.4f} .. {max(lons):.4f}",
        f"reasoning    {reasoned} samples with CoT ({reasoned / len(samples):.0%})",
    ]
    for name in ("split", "scene", "source", "licence"):
        values = [getattr(s, name) for s in samples]
        if any(values):
            lines.append(f"{name:<12} {_counts(values)}")
    scores = [s.locatability for s in samples if s.locatability is not None]
    if scores:
        mean = sum(scores) / len(scores)
        lines.append(
            f"locatability {min(scores):g} .. {max(scores):g}, mean {mean:.2f} ({len(scores)} samples)"
        )
    return lines + [f"warning: {warning}" for warning in loaded.warnings]


def _undecodable(samples: Sequence[Sample], max_megapixels: float) -> list[str]:
    bad = []
    for sample in samples:
        try:
            open_image(sample.image, max_megapixels)
        except BadImage as error:
            bad.append(f"{sample.uid}: {error}")
    return _some(bad, len(samples), "images are damaged behind a sound header")


def _same_files(samples: Sequence[Sample]) -> list[str]:
    by_size: dict[int, list[Sample]] = defaultdict(list)
    for sample in samples:
        by_size[Path(sample.image).stat().st_size].append(sample)
    by_content: dict[str, list[Sample]] = defaultdict(list)
    for group in by_size.values():
        for sample in group if len(group) > 1 else ():
            by_content[hashlib.sha1(Path(sample.image).read_bytes()).hexdigest()].append(sample)
    groups = [group for group in by_content.values() if len(group) > 1]
    apart = [g for g in groups if len({(s.lat, s.lon) for s in g}) > 1]
    return [
        *_some([" = ".join(s.uid for s in g) for g in groups], None, "photographs appear under more than one uid"),
        *_some([" = ".join(f"{s.uid} at {s.lat:.4f}, {s.lon:.4f}" for s in g) for g in apart], None,
               "of these are said to be in different places"),
    ]  # fmt: skip


def _abroad(samples: Sequence[Sample]) -> list[str]:
    """One line for each row that lies outside the country it names."""
    rows = outside([s.country for s in samples], [s.lat for s in samples], [s.lon for s in samples])
    return [f"{samples[row.index].uid}: {row}" for row in rows]


def _odd_texts(samples: Sequence[Sample]) -> list[str]:
    reasoned = [s for s in samples if s.cot]
    return _some(
        [f"{s.uid}: {parse(s.cot).problem}" for s in reasoned if not _shown(s.cot)],
        len(reasoned),
        "CoT texts break the format",
    )


def _shown(text: str) -> bool:
    """Say whether SFT can show a text: a chain, or an answer of another form (policy.answer)."""
    return is_chain(text) or any(read(text, form).format_ok for form in FORMS)


def _some(found: Sequence[str], total: int | None, what: str) -> list[str]:
    """No line, or one with the count and the first few examples."""
    if not found:
        return []
    share = f"{len(found)}" if total is None else f"{len(found)} of {total}"
    return [
        f"{share} {what} ({'; '.join(found[:EXAMPLES])}{'; ...' if len(found) > EXAMPLES else ''})"
    ]


def _counts(values: Iterable[str]) -> str:
    counted = Counter(value or "(none)" for value in values).most_common()
    text = ", ".join(f"{value} {n}" for value, n in counted[:10])
    return text + (f", {len(counted) - 10} more" if len(counted) > 10 else "")
