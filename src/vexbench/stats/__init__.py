"""How sure the numbers are: intervals, ranks, comparisons and trade-offs, from the scores alone."""
