"""How the damage of several pruned parts adds up: a law of two fitted numbers and one ceiling.

A model that knows nothing guesses at NLL = ln(vocabulary), so ΔNLL runs into the ceiling L = ln(vocabulary) - dense
NLL. Damage is therefore added on a latent scale, x = ΔNLL / (1 - ΔNLL / L), on which parts compound pair by pair:

    P = Σ_t x_t + ρ_same Σ_{same} x_s x_t + ρ_cross Σ_{cross} x_s x_t,        ΔNLL = P / (1 + P / L)

ρ is the relative growth of one part's cost for each nat that the other one costs. Two classes of masks: magnitude,
which ignores activations, and all others, which weigh them; pairs of one class (ρ_same) compound less than pairs across
classes (ρ_cross), as masks of one class spare the same features. Our own law, fitted by least squares (linear in ρ).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

#: A measured ΔNLL beyond this share of the ceiling says nothing about how parts add up and is left out of the fit.
HIGHEST = 0.55
#: Expected error of a prediction, a + b · ΔNLL² in nats: a is the jitter of W8A8 rounding in the seven terms; what the
#: law misses are pairs of parts, which grow with the square of the damage. Weighs the fit, scales the intervals.
ERROR_FLOOR, ERROR_GROWTH = 0.015, 0.03


def expected_error(delta: np.ndarray) -> np.ndarray:
    """Scale of the prediction error at ΔNLL ``delta``, in nats."""
    return ERROR_FLOOR + ERROR_GROWTH * np.square(delta)


@dataclass(frozen=True)
class Compounding:
    """The law with its numbers: ``same`` and ``cross`` in 1/nat, ``ceiling`` in nats."""

    same: float
    cross: float
    ceiling: float

    def __call__(self, parts: np.ndarray) -> np.ndarray:
        """ΔNLL [n] of parts [n, 2 classes, types], each part's own ΔNLL in nats."""
        total, pairs = terms(parts, self.ceiling)
        p = total + pairs @ np.array([self.same, self.cross])
        return p / (1 + np.maximum(p, 0) / self.ceiling)

    @classmethod
    def fit(cls, parts: np.ndarray, delta: np.ndarray, ceiling: float) -> Compounding:
        """The law closest to measured ``delta`` [n] of ``parts`` [n, 2, types], in units of the expected error."""
        use = delta < HIGHEST * ceiling
        parts, delta = parts[use], delta[use]
        total, pairs = terms(parts, ceiling)
        weight = (1 - delta / ceiling) ** 2 / expected_error(delta)
        missing = delta / (1 - delta / ceiling) - total
        found = np.linalg.lstsq(pairs * weight[:, None], missing * weight, rcond=None)[0]
        return cls(float(found[0]), float(found[1]), ceiling)


def terms(parts: np.ndarray, ceiling: float) -> tuple[np.ndarray, np.ndarray]:
    """Σ x [n] and the two pair sums (same class, cross class) [n, 2] of parts [n, 2, types].

    A type whose layers hold both classes is one part that is split between the classes, not a pair with itself. Parts
    whose measured ΔNLL is negative (noise) add to the sum and form no pairs.
    """
    whole = parts.sum(axis=1, keepdims=True)
    latent = parts / (1 - whole / ceiling)
    x = np.maximum(latent, 0)
    by_class = x.sum(axis=2)
    own = (x**2).sum(axis=2)
    same = 0.5 * (by_class**2 - own).sum(axis=1)
    cross = by_class[:, 0] * by_class[:, 1] - (x[:, 0] * x[:, 1]).sum(axis=1)
    return latent.sum(axis=(1, 2)), np.stack([same, cross], axis=1)
