"""The table of models in ``docs/models.md``."""

from __future__ import annotations

from workloads import zoo

HEADER = ("model", "parameters (M)", "layers and widths", "published")


def markdown() -> str:
    """One row a model, sorted by family and size; ``published`` is the figure that the count was checked against."""
    rows = [_row(name) for name in sorted(zoo.names(), key=_place)]
    lines = [HEADER, ("---", "---:", "---", "---"), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


def _place(name: str) -> tuple[str, int]:
    return str(zoo.raw(name)["model_type"]), zoo.parameters(name)


def _row(name: str) -> tuple[str, ...]:
    count, _, shape = zoo.summary(zoo.architecture(name)).partition(" M parameters: ")
    published = zoo.raw(name)["published_parameters"]
    return f"`{name}`", count, shape, f"{published:,}" if isinstance(published, int) else published
