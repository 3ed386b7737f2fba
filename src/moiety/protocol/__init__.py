"""State machines: one class per role, blocks in and blocks out, no input or output of their own."""
