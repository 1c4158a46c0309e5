"""What it runs on: bundled machine files and their loader."""

from accel_models.loader import accelerator, names, plain_fields, summaries

__all__ = ["accelerator", "names", "plain_fields", "summaries"]
