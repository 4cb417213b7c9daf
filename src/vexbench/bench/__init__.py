"""A study: configuration, plan, run."""
