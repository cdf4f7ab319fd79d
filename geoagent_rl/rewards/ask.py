"""Questions of a reward to the services: those that need no answer are left out, and the answers
are checked."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from geoagent_rl.rewards.services import Address, Services
from geoagent_rl.types import InfraError

if TYPE_CHECKING:
    from geoagent_rl.geo.match import Match

Question = TypeVar("Question")
Answer = TypeVar("Answer")


async def ask(
    service: Callable[[Sequence[Question]], Awaitable[list[Answer]]] | None,
    items: Sequence[Question | None],
    kind: type,
) -> list[Answer | None]:
    """Ask the items that are not None; the answers stay aligned with `items`.

    service: None where no weight above 0 needs it. Raises InfraError when there are not as many
    answers as questions or one is not of the agreed `kind`."""
    asked = [item for item in items if item is not None]
    answers = await service(asked) if service and asked else []
    if len(answers) != len(asked):
        raise InfraError(f"a service answered {len(answers)} of {len(asked)} questions")
    strange = [answer for answer in answers if not isinstance(answer, kind)]
    if strange:
        raise InfraError(
            f"a service answered {str(strange[0])[:80]!r} where a {kind.__name__} was due"
        )
    left = iter(answers)
    return [None if item is None else next(left) for item in items]


async def geocode(services: Services, *addresses: tuple[str, ...]) -> list[Match | None]:
    """Ask where addresses (country, region, place) lie. None for one without names, which nobody is
    asked about, and for one that is no place. Raises InfraError.
    """
    asked: list[Address | None] = []
    for address in addresses:
        country, region, place = address or ("", "", "")
        asked.append((country, region, place) if any(address) else None)
    return await ask(services.geocoder.geocode if services.geocoder else None, asked, object)
