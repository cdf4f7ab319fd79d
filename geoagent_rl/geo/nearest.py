"""The nearest populated places to coordinates: which country a position is in, and what it is
called.

This is reverse geocoding as OSV-5M's own labels were made (the nearest place of GeoNames), so close
to a border it may name the neighbour. It knows no polygons: far from every place, and at sea, it
says nothing."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree

from geoagent_rl.geo.distance import EARTH_RADIUS_KM
from geoagent_rl.geo.gazetteer import Gazetteer
from geoagent_rl.geo.match import Place

FARTHEST_KM = 500.0  # beyond it no place is near: open sea, Antarctica


def unit_vectors(lat: ArrayLike, lon: ArrayLike) -> NDArray[np.float64]:
    """Turn degrees into points on the unit sphere, shape (n, 3)."""
    phi, lam = (
        np.radians(np.asarray(lat, dtype=np.float64)),
        np.radians(np.asarray(lon, dtype=np.float64)),
    )
    return np.stack([np.cos(phi) * np.cos(lam), np.cos(phi) * np.sin(lam), np.sin(phi)], axis=-1)


def chord(km: float) -> float:
    """Return the straight distance on the unit sphere of two points `km` apart along the ground."""
    return 2 * float(np.sin(min(km / EARTH_RADIUS_KM, np.pi) / 2))


def ground_km(chords: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the distance along the ground of straight distances on the unit sphere."""
    km: NDArray[np.float64] = 2 * EARTH_RADIUS_KM * np.arcsin(np.minimum(chords / 2, 1.0))
    return km


class NearestPlace:
    """An index of places; `places[i]` is the i-th."""

    def __init__(self, places: Iterable[Place]) -> None:
        self.places = list(places)
        self.lat = np.array([p.lat for p in self.places])
        self.lon = np.array([p.lon for p in self.places])
        self._tree = cKDTree(unit_vectors(self.lat, self.lon))

    @staticmethod
    @cache
    def open() -> NearestPlace:
        """Open all places of the gazetteer (500 people or more); about a second, once per
        process."""
        return NearestPlace(Gazetteer.open().places())

    def within(self, lat: float, lon: float, km: float) -> list[int]:
        """Return the indices of the places within `km` of one position, in no order."""
        (point,) = unit_vectors([lat], [lon])
        return list(self._tree.query_ball_point(point, chord(km)))

    def find(self, lat: ArrayLike, lon: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return (index of the nearest place, or -1 if none is within FARTHEST_KM; distance in km)
        for n positions."""
        chords, index = self._tree.query(
            unit_vectors(lat, lon), distance_upper_bound=chord(FARTHEST_KM)
        )
        near = np.isfinite(chords)
        return np.where(near, index, -1), np.where(
            near, ground_km(np.where(near, chords, 0.0)), np.inf
        )
