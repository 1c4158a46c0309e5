"""Checkpoints of decoders: GGUF, safetensors, Hugging Face folders and ``.npz``, streamed matrix by matrix.

Two floors. A ``Container`` (``container.py``; one file a format) reads named tensors as float32 out of untrusted files.
``Contents`` (``contents.py``; found by ``gguf_model.py`` and ``hf_model.py``) says which of them is which matrix and
what the NumPy forward pass would get wrong. ``Checkpoint`` holds one of them open for the rest of the package.
"""

from workloads.checkpoint.contents import undo_rope_permutation
from workloads.checkpoint.model import INPUTS, MATRIX_INPUT, MATRIX_TYPES, ModelConfig
from workloads.checkpoint.reader import CACHE_BYTES, Checkpoint, open_checkpoint

__all__ = [
    "CACHE_BYTES",
    "INPUTS",
    "MATRIX_INPUT",
    "MATRIX_TYPES",
    "Checkpoint",
    "ModelConfig",
    "open_checkpoint",
    "undo_rope_permutation",
]
