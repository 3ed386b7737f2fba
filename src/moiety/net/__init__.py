"""Blocks between the parties: once each, in order, and from the pinned peer only."""
