"""Which country does a name mean? Names in all languages, inverted and abbreviated forms,
territories with their state, slips of spelling; and words that are wider than a country. Knows no
regions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from geoagent_rl.geo.country_names import TERRITORIES, bag
from geoagent_rl.geo.places import comma_parts, core_key, lookup_key, undouble

MAX_PARTS = 6  # of one level that are looked up: a runaway completion must not cost seconds
SURE = 4  # a name of several countries means the one that four times as many languages mean by it
# Antarctica, Outlying Islands: countries where no place is known, so that they stand nowhere
_UNPLACED = (
    "SELECT 1 FROM country_name n WHERE n.key = ?"
    " AND NOT EXISTS (SELECT 1 FROM country c WHERE c.code = n.code)"
)
Rows = Callable[..., list[tuple[Any, ...]]]


@dataclass(frozen=True, slots=True)
class Vague:
    """A word for several countries: a "continent" (or another area of the world), or a "union"."""

    kind: str
    codes: frozenset[str]


class Countries:
    """Answers with ISO 3166-1 codes; "" where a text names no country."""

    def __init__(self, rows: Rows, names: dict[str, str]) -> None:
        """`names`: the English name by code of every country that can be placed."""
        self._iso = dict(rows("SELECT iso3, code FROM country")) | {code: code for code in names}
        self._rows = rows
        self._english = {lookup_key(name): code for code, name in names.items()}
        self._codes = frozenset(names)
        self.find = lru_cache(4_096)(self._find)
        self.vague = lru_cache(4_096)(self._vague)

    def bearers(self, text: str) -> list[str]:
        """Return every country that bears the name in some language ("Congo" has two), most usual
        first; no slips."""
        key = lookup_key(text)
        for form in (key, key.removeprefix("the "), bag(key)):
            if codes := [code for code, _ in self._of_key(form)]:
                return codes
        code, slip = self.find(text)
        return [code] if code and not slip else []

    def exact(self, text: str) -> str:
        """Return the country that is called exactly so, or by the same words in another order."""
        key = lookup_key(text)
        code: str = self._iso.get(text.strip().upper(), "")
        if code and text.strip().isupper():
            return code  # "AO" is Angola, "Áo" and "ao" Austria in Vietnamese
        for form in (key, key.removeprefix("the ")):
            if rows := self._of_key(form):
                return self._surest(rows)
        if self.vague(text):
            return ""  # "Southern Africa" has the words of a country
        return self._surest(self._of_key(bag(key))) or code

    def _find(self, text: str) -> tuple[str, bool]:
        """(code, is it a guess at the spelling?)"""
        key = lookup_key(text)
        if (code := self.exact(text)) or not key:
            return code, False
        if self.vague(text):
            return "", False
        if code := self._of_parts(text, key):
            return code, False
        for form in (
            core_key(key).removeprefix("kingdom ").removeprefix("federal "),
            undouble(key),
        ):
            if form != key and len(form) > 3 and (rows := self._of_key(form)):
                return self._surest(rows), False
        return self._spelt(key), True

    def _of_parts(self, text: str, key: str) -> str:
        """Return, of "Réunion (France)", the territory, of "Jerusalem, Israel" the country; several
        countries that do not belong together are a list, which names none.
        """
        parts = [part for part in comma_parts(text)[:MAX_PARTS] if lookup_key(part) != key]
        codes = list(dict.fromkeys(filter(None, map(self.exact, parts))))
        inner = [c for c in codes if any(c in TERRITORIES.get(other, ()) for other in codes)]
        if len(inner) == 1:
            return inner[0]
        if set(codes) == {"GE", "US"}:
            return "US"  # "Georgia, USA"
        return codes[0] if len(codes) == 1 else ""

    def _spelt(self, key: str) -> str:
        """Return the one country whose English name is at most one slip away (two in long names).
        The first letter is seldom wrong, and others make other names: Prussia, Russia.
        """
        if len(key) < 5:
            return ""
        most = 1 if len(key) < 9 else 2
        near: dict[int, set[str]] = {}
        for name, code in self._english.items():
            if name[0] == key[0] and abs(len(name) - len(key)) <= most:
                slips = _slips(key, name, most)
                if slips <= most:
                    near.setdefault(slips, set()).add(code)
        best = near.get(min(near, default=0), set())
        return next(iter(best)) if len(best) == 1 else ""

    def _vague(self, text: str) -> Vague | None:
        key = lookup_key(text)
        forms = {key, key.removeprefix("the "), key.removesuffix(" continent")}
        if any(self._rows(_UNPLACED, form) for form in forms if form):
            return Vague("unplaced", frozenset())
        for form in forms:
            if rows := self._rows("SELECT kind, codes FROM vague WHERE key = ?", form):
                return Vague(rows[0][0], frozenset(rows[0][1].split()))
        return None

    def _of_key(self, key: str) -> list[tuple[str, int]]:
        sql = "SELECT code, weight FROM country_name WHERE key = ? ORDER BY weight DESC"
        return [row for row in self._rows(sql, key) if row[0] in self._codes] if key else []

    @staticmethod
    def _surest(rows: list[tuple[str, int]]) -> str:
        """Return the first, unless the second is named so nearly as often."""
        if not rows or (len(rows) > 1 and rows[0][1] < SURE * rows[1][1]):
            return ""
        return rows[0][0]


def _slips(a: str, b: str, most: int) -> int:
    """Letters added, left out, replaced or exchanged between two names; more than `most` counts as
    most + 1.
    """
    before, last = [0], list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        row = [i] + [0] * len(b)
        for j, y in enumerate(b, 1):
            row[j] = min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (x != y))
            if i > 1 and j > 1 and x == b[j - 2] and a[i - 2] == y:
                row[j] = min(row[j], before[j - 2] + 1)
        if min(row) > most:
            return most + 1
        before, last = last, row
    return last[-1]
