"""Recipes: read with positions, overridden, validated with all problems at once, dumped again."""
