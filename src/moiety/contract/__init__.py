"""What both parties agree on, and what the data owner allows. Pure: no connection, no disk, no PyTorch."""
