"""What a phase of inference runs: forward passes in order, some of them many times.

- ``prefill``: a prompt, whole or in chunks (each after the positions cached so far; Agrawal et al. 2023).
- ``decode``: one token a sequence.
- ``request``: prefill (which gives the first token), then a decode step for each further one. Steps are integrated over
  context in runs of odd length, each standing for its middle step: costs linear in context add up exactly.
- ``mixed``: sequences that prefill and sequences that decode share one pass.
- ``speculative``: ``gamma`` decode steps of a draft model, then one pass of the model over ``gamma + 1`` tokens a
  sequence. Expected tokens a round (1 - a^(gamma + 1)) / (1 - a) for acceptance a, tokens accepted independently
  (Leviathan et al. 2023, equation 1, from memory of the paper).
- ``diffusion``: a masked-diffusion model denoises ``tokens`` in ``steps`` bidirectional passes over prompt and answer
  (Nie et al. 2025); with ``block``, block after block with the keys and values of what comes before cached
  (Wu et al. 2025, Fast-dLLM). Both from memory of the papers.
- ``encode``: one bidirectional pass of an encoder.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sim.errors import InputError, nearest
from workloads.steps import APPEND, KEEP, RELOAD, Sequences, Step, share, whole

SAMPLES = 8
ALL = "all"


@dataclass(frozen=True)
class Pass:
    """One forward pass, ``repeats`` times; ``head``: whether it ends in the head; ``draft``: of the draft model."""

    step: Step
    label: str = ""
    repeats: int = 1
    head: bool = True
    draft: bool = False


@dataclass(frozen=True)
class Plan:
    """Passes of a phase; ``step`` describes them in one (for the trace's ``meta``), ``work`` in a name."""

    passes: tuple[Pass, ...]
    step: Step
    work: str
    about: dict[str, Any] = field(default_factory=dict)


def plan(phase: str, batch: int = 1, kept: float = 1.0, **options: Any) -> Plan:
    """The passes of ``phase``; options that are None count as left out.

    :class:`InputError` for an unknown phase, an option that the phase does not have or lacks, and values out of range.
    """
    if phase not in _PLANS:
        raise InputError(f"phase '{phase}' is unknown, {nearest(phase, _PLANS)}")
    build, allowed = _PLANS[phase]
    given = {name: value for name, value in options.items() if value is not None}
    for name in given:
        if name not in allowed:
            owners = [p for p, (_, names) in _PLANS.items() if name in names]
            raise InputError(f"{name} is not for {phase}, only for {', '.join(owners)}")
    found = build(whole("batch", batch), **given)
    if share("kv_kept", kept) == 1.0:
        return found
    return replace(found, passes=tuple(replace(p, step=_thinned(p.step, kept)) for p in found.passes))


def decode_runs(first: int, steps: int, samples: int | str = SAMPLES) -> list[tuple[int, int]]:
    """(context, steps it stands for): ``steps`` decode steps at contexts ``first``, ``first + 1`` … in runs of odd
    length, ``samples`` of them or one more; each context is its run's middle. "all": every step by itself."""
    runs = steps if samples == ALL else min(steps, whole("decode_samples", samples))
    runs += (steps - runs) % 2
    half, more = divmod((steps - runs) // 2, max(1, runs))
    found, at = [], first
    for i in range(runs):
        reach = half + (i < more)
        found.append((at + reach, 2 * reach + 1))
        at += 2 * reach + 1
    return found


def _thinned(step: Step, kept: float) -> Step:
    return replace(step, mix=tuple(replace(s, kept=kept) for s in step.sequences))


def _prefill(
    batch: int, tokens: int | None = None, context: int | None = None, chunk: int | None = None, label: str = ""
) -> Plan:
    step = Step.of("prefill", batch, tokens, context)
    if chunk is None:
        return Plan((Pass(step, label),), step, f"{step.tokens}tokens")
    size = whole("chunk", chunk)
    starts = range(0, step.tokens, size)
    passes = tuple(
        Pass(
            Step.of("prefill", batch, min(size, step.tokens - start), step.context + start),
            f"{label or 'chunk'}{i}.",
            head=start + size >= step.tokens,
        )
        for i, start in enumerate(starts)
    )
    return Plan(passes, step, f"{step.tokens}tokens_{size}chunk", {"chunk": size})


def _decode(batch: int, tokens: int | None = None, context: int | None = None) -> Plan:
    step = Step.of("decode", batch, tokens, context)
    return Plan((Pass(step),), step, f"{step.context}context")


def _request(
    batch: int,
    tokens: int | None = None,
    new_tokens: int | None = None,
    chunk: int | None = None,
    decode_samples: int | str = SAMPLES,
) -> Plan:
    if new_tokens is None:
        raise InputError("request needs new_tokens: tokens each sequence generates, >= 1")
    new = whole("new_tokens", new_tokens)
    prompt = _prefill(batch, tokens, None, chunk, "prefill" if chunk else "prefill.")
    start = prompt.step.tokens
    runs = decode_runs(start, new - 1, decode_samples)
    steps = tuple(Pass(Step.of("decode", batch, context=at), f"decode{at}.", count) for at, count in runs)
    about = prompt.about | {"new_tokens": new, "decode_steps": new - 1, "decode_runs": len(runs)}
    whole_step = replace(prompt.step, phase="request")
    return Plan(prompt.passes + steps, whole_step, f"{start}in_{new}out", about)


def _mixed(batch: int, mix: Sequence[tuple[int, int, int]] | None = None) -> Plan:
    if not mix or batch != 1:
        raise InputError("mixed needs mix: (sequences, new tokens each, cached positions each), …; and no batch")
    groups = []
    for i, item in enumerate(mix):
        try:
            count, tokens, context = item
        except (TypeError, ValueError):
            raise InputError(f"mix[{i}] must be (sequences, new tokens, cached positions), got {item!r}") from None
        tokens = whole(f"mix[{i}] new tokens", tokens)
        groups.append(
            Sequences(
                whole(f"mix[{i}] sequences", count),
                tokens,
                whole(f"mix[{i}] cached positions", context, least=0),
                APPEND if tokens == 1 else RELOAD,
                tokens > 1,
            )
        )
    sequences = sum(g.count for g in groups)
    step = Step("mixed", sequences, sum(g.rows for g in groups), max(g.context for g in groups), tuple(groups))
    return Plan((Pass(step),), step, f"{step.tokens}tokens_{step.context}context")


def _speculative(
    batch: int, context: int | None = None, gamma: int | None = None, acceptance: float | None = None
) -> Plan:
    for name, value in (("context", context), ("gamma", gamma), ("acceptance", acceptance)):
        if value is None:
            raise InputError(f"speculative needs {name} (context, gamma, acceptance, draft)")
    at, guesses, rate = whole("context", context, least=0), whole("gamma", gamma), share("acceptance", acceptance)
    drafts = tuple(Pass(Step.of("decode", batch, context=at + i), f"draft{i}.", draft=True) for i in range(guesses))
    verify = Step(
        "speculative", batch, guesses + 1, at, (Sequences(batch, guesses + 1, at, APPEND, True),), scored=guesses + 1
    )
    about = {"gamma": guesses, "acceptance": rate, "expected_tokens": expected_tokens(guesses, rate)}
    return Plan((*drafts, Pass(verify, "verify.")), verify, f"{at}context_gamma{guesses}", about)


def expected_tokens(gamma: int, acceptance: float) -> float:
    """Tokens a sequence gains in one round of speculative decoding, 1 to ``gamma + 1``."""
    return sum(acceptance**i for i in range(gamma + 1))


def _diffusion(
    batch: int,
    tokens: int | None = None,
    context: int | None = None,
    steps: int | None = None,
    block: int | None = None,
) -> Plan:
    if tokens is None or steps is None:
        raise InputError("diffusion needs tokens (that are generated) and steps (denoising passes)")
    new, prompt, count = whole("tokens", tokens), whole("context", context or 0, least=0), whole("steps", steps)
    size = new if block is None else whole("block", block, most=new)
    if new % size or count % (new // size):
        raise InputError(f"block must divide tokens {new} into blocks of equal share of the {count} steps, got {size}")

    def denoise(length: int, cached: int, scored: int, cache: str = KEEP) -> Step:
        return Step("diffusion", batch, length, cached, (Sequences(batch, length, cached, cache, False),), scored)

    about = {"steps": count, "block": size, "new_tokens": new}
    step = Step("diffusion", batch, new, prompt)
    work = f"{new}tokens_{count}steps" + ("" if block is None else f"_{size}block")
    if block is None:
        return Plan((Pass(denoise(prompt + new, 0, new), repeats=count),), step, work, about)
    each, blocks, passes = count // (new // size), new // size, []
    if prompt:
        passes.append(Pass(denoise(prompt, 0, 1, RELOAD), "prompt.", head=False))
    for b in range(blocks):
        at = prompt + b * size
        loose = each - (b < blocks - 1)  # the last pass of a block writes its keys and values for the blocks after it
        if loose:
            passes.append(Pass(denoise(size, at, size), f"block{b}.", loose))
        if loose < each:
            passes.append(Pass(denoise(size, at, size, APPEND), f"block{b}_last."))
    return Plan(tuple(passes), step, work, about)


def _encode(batch: int, tokens: int | None = None) -> Plan:
    if tokens is None:
        raise InputError("encode needs tokens: of each sequence, >= 1")
    count = whole("tokens", tokens)
    step = Step("encode", batch, count, 0, (Sequences(batch, count, 0, KEEP, False),))
    return Plan((Pass(step),), step, f"{count}tokens")


_PLANS: dict[str, tuple[Callable[..., Plan], tuple[str, ...]]] = {
    "prefill": (_prefill, ("tokens", "context", "chunk")),
    "decode": (_decode, ("tokens", "context")),
    "request": (_request, ("tokens", "new_tokens", "chunk", "decode_samples")),
    "mixed": (_mixed, ("mix",)),
    "speculative": (_speculative, ("context", "gamma", "acceptance")),
    "diffusion": (_diffusion, ("tokens", "context", "steps", "block")),
    "encode": (_encode, ("tokens",)),
}
PHASES = tuple(_PLANS)
