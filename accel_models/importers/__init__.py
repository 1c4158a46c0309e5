"""Machine files of other simulators as machines of ours: what they say, leave open, and what has no counterpart."""

from accel_models.importers.draft import Draft
from accel_models.importers.scalesim import Config, read_config
from accel_models.importers.zigzag import zigzag_machine

__all__ = ["Config", "Draft", "read_config", "zigzag_machine"]
