"""Results on disk: a folder that survives a killed run, and frames read back from it."""
