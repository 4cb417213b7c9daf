"""Networks: what is asked (Classifier), where they come from (zoo), how they are trained and kept."""
