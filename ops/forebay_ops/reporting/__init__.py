"""What the ledger tells: where the money went, what saved it, how fast the answers were."""
