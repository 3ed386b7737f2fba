"""Coverage-guided fuzzing of everything that reads bytes from a peer or a disk. See docs/fuzzing.md."""
