"""Traces of other people's models: an ONNX file, or a torch module that is run once."""

from workloads.importers.onnx_file import from_onnx
from workloads.importers.torch_module import from_torch

__all__ = ["from_onnx", "from_torch"]
