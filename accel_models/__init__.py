"""What it runs on: bundled machine files and their loader."""

from accel_models.loader import accelerator, names, summaries

__all__ = ["accelerator", "names", "summaries"]
