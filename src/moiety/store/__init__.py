"""Files that survive a crash: models, checkpoints, the ledger, the contract."""
