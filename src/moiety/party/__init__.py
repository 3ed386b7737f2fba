"""What one party does, from its run file to its saved model."""
