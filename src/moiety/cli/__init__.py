"""What people type and read: commands, and how their results are printed. No logic."""
