"""Both parties on one machine, on data that is shipped, beside training in the clear."""
