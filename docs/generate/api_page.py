"""The Python reference: every public name of ``sparchitect`` with its signature and docstring."""

from __future__ import annotations

import inspect
import re
from typing import Any

from prose import cell, first_sentence, markdown
from tables import table

import sparchitect as sp

#: What is read together; a public name in none of them comes last.
GROUPS = {
    "Machines": ("accelerator", "Accelerator"),
    "Work": (
        *("llm", "gemm", "gemv", "batched_gemm", "conv2d", "depthwise_conv2d", "elementwise", "reduction", "sequence"),
        *("load_trace", "from_onnx", "from_torch", "Trace", "Op", "Sparsity"),
    ),
    "Zeros": ("reorder", "remove", "with_activation_zeros"),
    "Running": ("simulate", "Report", "evaluate", "sweep", "explore"),
    "Several chips": ("Chips", "simulate_chips"),
    "Figures": ("figure",),
    "Other simulators": ("from_scalesim", "from_zigzag"),
    "Errors": ("InputError",),
}


def page() -> str:
    text = [
        "# Python",
        f"Generated from the docstrings of `sparchitect` {sp.__version__}. `import sparchitect as sp`, then `sp.NAME`; "
        "names are loaded when first used. What is not listed is private and may change.",
    ]
    grouped = [name for names in GROUPS.values() for name in names]
    rest = [name for name in sp.__all__ if name not in grouped and not name.startswith("__")]
    for group, names in (GROUPS | ({"More": tuple(rest)} if rest else {})).items():
        public = [name for name in names if name in sp.__all__]
        text += [f"## {group}"] if public else []
        for name in public:
            text += entry(name, getattr(sp, name))
    return "\n\n".join(text) + "\n"


def entry(name: str, value: Any) -> list[str]:
    """Heading, signature, docstring and, for a class, its public members."""
    said = inspect.getdoc(value) or ""
    found = [f"### {name}", f"```python\n{_signature(name, value)}\n```", markdown(said)]
    if inspect.isclass(value) and not issubclass(value, Exception):
        rows = [(f"`{member}`", cell(first_sentence(about))) for member, about in members(value)]
        if rows:
            found.append(table(("member", ""), rows))
    return found


def members(owner: type) -> list[tuple[str, str]]:
    """(spelling, docstring) of what a class adds itself and documents: properties, methods."""
    found = []
    for name, value in vars(owner).items():
        plain = inspect.unwrap(value.__func__ if isinstance(value, classmethod | staticmethod) else value)
        said = inspect.getdoc(value) or ""
        if name.startswith("_") or not said:
            continue
        if inspect.isfunction(plain):
            found.append((f"{name}(…)", said))
        elif isinstance(value, property) or hasattr(value, "__get__"):
            found.append((name, said))
    return found


def _signature(name: str, value: Any) -> str:
    """As a caller would write it: names and defaults; types of functions only, since a class's fields have pages."""
    if inspect.isclass(value):
        return f"class sp.{name}"
    lines = []
    for parameter in inspect.signature(value).parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and "*" not in lines:
            lines.append("*")
        kind = "" if parameter.annotation is parameter.empty else f": {str(parameter.annotation).strip(chr(39))}"
        default = "" if parameter.default is parameter.empty else f" = {_shown(parameter.default)}"
        stars = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
        lines.append(f"{stars}{parameter.name}{kind}{default}")
    returns = inspect.signature(value).return_annotation
    head, tail = f"sp.{name}(", f") -> {str(returns).strip(chr(39))}"
    flat = head + ", ".join(lines) + tail
    return flat if len(flat) <= 100 else head + "".join(f"\n    {line}," for line in lines) + f"\n{tail}"


def _shown(default: Any) -> str:
    return re.sub(r"<function (.*?)( at 0x\w+)?>", "...", repr(default))
