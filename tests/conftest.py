"""Settings of the whole test run."""

from hypothesis import settings

# Derandomised: a failure on one machine is the same failure on every other.
settings.register_profile("moiety", derandomize=True, deadline=None, max_examples=50)
settings.load_profile("moiety")
