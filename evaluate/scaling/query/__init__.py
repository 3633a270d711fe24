"""Questions to a fitted law: where it reaches a target, how to split a budget, where two laws cross."""
