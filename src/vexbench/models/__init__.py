"""Networks: what is asked (Classifier), where they come from (zoo), how they are trained and kept."""

EMBEDDED = ("demo", "shortcut")
"""Networks that come with the package, and are asked for by name where a checkpoint's path may stand."""
