"""The paper's experiments: its data, networks of its kind, and the systems that it is compared with."""
