"""How long tests wait for what is to come."""

from typing import Final

PATIENCE: Final = 240.0
"""Seconds: more than any wait takes on a busy machine, and less than pytest grants a test."""
