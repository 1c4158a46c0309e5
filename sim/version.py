"""The version, where the bottom floor can read it."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("sparchitect")
except PackageNotFoundError:  # running from a source tree that was never installed
    __version__ = "0+source"
