"""The model's own tokenizer, rebuilt from the GGUF metadata: byte-level BPE with digits split one by one.

Covers the pre-tokenisers that are Digits(individual) followed by ByteLevel (``smollm`` and its kin). No BOS is added.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sim.errors import InputError
from workloads.checkpoint import Checkpoint

#: Values of tokenizer.ggml.pre that mean Digits(individual) + ByteLevel.
DIGITS_THEN_BYTES = ("smollm", "starcoder", "refact", "command-r", "codeshell")
_CONTROL = (3, 4)  # gguf.TokenType.CONTROL, USER_DEFINED: never merged out of plain text


class Tokenizer:
    """Text to token ids and back. Raises InputError when the file's tokenizer is of another kind."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        kind, pre = checkpoint.metadata("tokenizer.ggml.model"), checkpoint.metadata("tokenizer.ggml.pre")
        if kind != "gpt2" or pre not in DIGITS_THEN_BYTES:
            raise InputError(
                f"{checkpoint.path}: tokenizer {kind!r} with pre-tokeniser {pre!r} is not supported; "
                "give token ids (windows) instead of text"
            )
        self._tokenizer = _build(checkpoint)

    def encode(self, text: str) -> np.ndarray:
        """Token ids of ``text``, int64 [tokens]."""
        return np.array(self._tokenizer.encode(text).ids, dtype=np.int64)

    def decode(self, ids: np.ndarray) -> str:
        """The text of token ids."""
        return self._tokenizer.decode([int(i) for i in ids], skip_special_tokens=False)


def _build(checkpoint: Checkpoint) -> Any:
    try:
        from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    except ImportError:
        raise InputError("tokenizing needs the package tokenizers: pip install 'sparchitect[llm]'") from None
    tokens = checkpoint.metadata("tokenizer.ggml.tokens") or []
    if len(tokens) != checkpoint.config.vocab:
        raise InputError(f"{checkpoint.path}: {len(tokens)} tokens named for a vocabulary of {checkpoint.config.vocab}")
    merges = [tuple(merge.split(" ")) for merge in checkpoint.metadata("tokenizer.ggml.merges") or []]
    types = checkpoint.metadata("tokenizer.ggml.token_type") or []
    tokenizer = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = [token for token, kind in zip(tokens, types, strict=False) if kind in _CONTROL]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    return tokenizer
