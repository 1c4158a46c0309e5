"""The pruning methods as their docstrings tell them, with what is the paper's and what is not."""

from __future__ import annotations

import inspect
import re
import sys

from prose import cell, inline, markdown
from tables import table

from workloads.pruning import method, methods
from workloads.pruning.base import PruningMethod

_OWN = re.compile(
    r"stand-in|from memory|left out|layer proxy|Fine-tuning|no gradients|trains them; here", re.IGNORECASE
)


def page() -> str:
    named = [(name, type(method(name))) for name in methods()]
    text = [
        "# Pruning methods, one by one",
        "Generated from the docstrings of `workloads/pruning/`, one file a method. How to call them, patterns and "
        "measured perplexities: [pruning](../pruning.md), whose table also tells what a method is "
        "calibrated on. The first table repeats the sentences in which each docstring tells its distance to the paper.",
        table(
            ("method", "one matrix or the model", "calibration", "takes", "not the paper's, or from memory"),
            [_row(name, kind) for name, kind in named],
        ),
    ]
    for name, kind in named:
        module = sys.modules[kind.__module__]
        about, rest = inspect.getdoc(module) or "", inspect.getdoc(kind) or ""
        text += [f"## {name}", f"`{kind.__module__}.{kind.__name__}`. {inline(rest)}", markdown(about)]
    return "\n\n".join(text) + "\n"


def departures(kind: type) -> list[str]:
    """Sentences of a method's docstrings that say stand-in, from memory, or what is left out."""
    said = f"{inspect.getdoc(sys.modules[kind.__module__]) or ''}\n\n{inspect.getdoc(kind) or ''}"
    prose = [" ".join(part.split()) for part in re.split(r"\n\s*\n", said) if not part.startswith("    ")]
    sentences = [s for part in prose for s in re.split(r"(?<=[.])\s+(?=[A-Z(])", part)]
    return [sentence for sentence in sentences if _OWN.search(sentence)]


def _cites(kind: type) -> bool:
    return re.search(r"\b(19|20)\d\d\b", inspect.getdoc(sys.modules[kind.__module__]) or "") is not None


def _row(name: str, kind: type) -> tuple[str, ...]:
    scope = "matrix" if issubclass(kind, PruningMethod) else "model"
    needs = f"{kind.needs}, layer by layer" if kind.sequential else kind.needs
    takes = " ".join(f"`{pattern.example}`" for pattern in kind.takes)
    own = " ".join(departures(kind)) or (
        "a paper, and no departure named" if _cites(kind) else "no paper named: our own"
    )
    return f"[`{name}`](#{name})", scope, needs, takes, cell(own)
