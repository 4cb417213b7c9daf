"""How scenes are drawn."""
