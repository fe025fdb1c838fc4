"""Sources of blocks made of others: slices, rows, copies, parity."""
