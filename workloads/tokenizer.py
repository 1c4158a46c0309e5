"""The model's own tokenizer: ``tokenizer.json`` of a Hugging Face folder, or rebuilt from GGUF metadata.

From GGUF: byte-level BPE with digits split one by one, the pre-tokenisers that are Digits(individual) followed by
ByteLevel (``smollm`` and its kin). No BOS or other special token is added, whatever the file says.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from sim.errors import InputError
from workloads.checkpoint import Checkpoint
from workloads.checkpoint.container import reason

#: Values of tokenizer.ggml.pre that mean Digits(individual) + ByteLevel.
DIGITS_THEN_BYTES = ("smollm", "starcoder", "refact", "command-r", "codeshell")
#: A vocabulary of 262,144 tokens takes 33 MB as tokenizer.json.
MAX_FILE = 64 << 20
_CONTROL = (3, 4)  # gguf.TokenType.CONTROL, USER_DEFINED: never merged out of plain text


class Tokenizer:
    """Text to token ids and back. Raises InputError when the model has none that is read."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._tokenizer = _rebuilt(checkpoint) if checkpoint.tokenizer_file is None else _read(checkpoint)

    def encode(self, text: str) -> np.ndarray:
        """Token ids of ``text``, int64 [tokens]."""
        return np.array(self._tokenizer.encode(text, add_special_tokens=False).ids, dtype=np.int64)

    def decode(self, ids: np.ndarray) -> str:
        """The text of token ids."""
        return self._tokenizer.decode([int(i) for i in ids], skip_special_tokens=False)


def _package() -> Any:
    try:
        import tokenizers
    except ImportError:
        raise InputError("tokenizing needs the package tokenizers: pip install 'sparchitect[llm]'") from None
    return tokenizers


def _made(make: Callable[[], Any], where: Path) -> Any:
    """What ``make`` returns; InputError for anything the package raises on data it cannot use."""
    try:
        return make()
    except BaseException as error:  # the package's panics derive from nothing narrower
        if isinstance(error, KeyboardInterrupt | SystemExit | MemoryError):
            raise
        raise InputError(f"{where}: not a tokenizer that can be used ({reason(error)})") from None


def _read(checkpoint: Checkpoint) -> Any:
    path, package = checkpoint.tokenizer_file, _package()
    try:
        with open(path, encoding="utf-8") as stream:
            text = stream.read(MAX_FILE + 1)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({reason(error)})") from None
    if len(text) > MAX_FILE:
        raise InputError(f"{path}: more than {MAX_FILE} characters")
    tokenizer = _made(lambda: package.Tokenizer.from_str(text), path)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    if tokenizer.get_vocab_size() > checkpoint.config.vocab:
        raise InputError(f"{path}: {tokenizer.get_vocab_size()} tokens for a vocabulary of {checkpoint.config.vocab}")
    return tokenizer


def _rebuilt(checkpoint: Checkpoint) -> Any:
    kind, pre = checkpoint.metadata("tokenizer.ggml.model"), checkpoint.metadata("tokenizer.ggml.pre")
    if kind is None:
        raise InputError(f"{checkpoint.path}: no tokenizer.json beside it; give token ids (windows) instead of text")
    if kind != "gpt2" or pre not in DIGITS_THEN_BYTES:
        raise InputError(
            f"{checkpoint.path}: tokenizer {str(kind)[:40]!r} with pre-tokeniser {str(pre)[:40]!r} is not supported; "
            "give token ids (windows) instead of text"
        )
    tokens = checkpoint.metadata("tokenizer.ggml.tokens") or []
    if len(tokens) != checkpoint.config.vocab:
        raise InputError(f"{checkpoint.path}: {len(tokens)} tokens named for a vocabulary of {checkpoint.config.vocab}")
    return _made(lambda: _byte_level(checkpoint, tokens), checkpoint.path)


def _byte_level(checkpoint: Checkpoint, tokens: list[str]) -> Any:
    package = _package()
    decoders, models, pre_tokenizers = package.decoders, package.models, package.pre_tokenizers
    merges = [tuple(merge.split(" ")) for merge in checkpoint.metadata("tokenizer.ggml.merges") or []]
    types = checkpoint.metadata("tokenizer.ggml.token_type") or []
    tokenizer = package.Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = [token for token, kind in zip(tokens, types, strict=False) if kind in _CONTROL]
    tokenizer.add_special_tokens([package.AddedToken(token, special=True, normalized=False) for token in special])
    return tokenizer
