"""TODO-models."""
