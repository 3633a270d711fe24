"""Reading a recipe: YAML with positions, checks in words, overrides, the order of passes, the JSON schema."""
