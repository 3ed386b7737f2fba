"""What a training will cost and release, said beforehand from one run file."""
