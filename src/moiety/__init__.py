"""Two organisations train one neural network."""
