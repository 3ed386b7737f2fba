"""Tables of one party: reading, preparation of features, the target. Nothing here is ever sent."""
