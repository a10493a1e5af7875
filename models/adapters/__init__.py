"""One folder per adapter; `adapters()` discovers and validates them. Adding one touches nothing else."""

from models.adapter import adapters

__all__ = ["adapters"]
