"""Fields of a ``config.json``, checked as they are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sim.errors import InputError, nearest


@dataclass(frozen=True)
class Fields:
    """``values`` of a config, and ``where`` they are from; a field that is null counts as left out."""

    values: Mapping[str, Any]
    where: str

    def __contains__(self, key: str) -> bool:
        return self.values.get(key) is not None

    def whole(self, key: str, default: int | None = None, least: int = 1) -> int:
        """An integer of at least ``least``; without ``default`` it must be there."""
        value = self.values.get(key)
        if value is None:
            if default is None:
                raise InputError(f"{self.where}: field '{key}' is missing, {nearest(key, self.values)}")
            return default
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise InputError(f"{self.where}: {key} must be an integer >= {least}, got {value!r}")
        return value

    def optional(self, key: str) -> int | None:
        """An integer >= 1, or None when left out."""
        return self.whole(key) if key in self else None

    def real(self, key: str, default: float) -> float:
        """A number above 0."""
        value = self.values[key] if key in self else default
        if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
            raise InputError(f"{self.where}: {key} must be a number > 0, got {value!r}")
        return float(value)

    def flag(self, key: str, default: bool) -> bool:
        """True or false."""
        value = self.values.get(key, default)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise InputError(f"{self.where}: {key} must be true or false, got {value!r}")
        return value

    def choice(self, key: str, default: str, known: Mapping[str, str]) -> str:
        """What ``known`` makes of a text; :class:`InputError` with the nearest when it is not known."""
        value = str(self.values[key]) if key in self else default
        if value not in known:
            raise InputError(f"{self.where}: {key} {value!r} is unknown, {nearest(value, known)}")
        return known[value]

    def refuse(self, *keys: str) -> None:
        """:class:`InputError` when a field that would change the operations is set."""
        for key in keys:
            if self.values.get(key):
                hint = "leave it out or set it to false or null"
                raise InputError(f"{self.where}: {key} {self.values[key]!r} is not supported; {hint}")
