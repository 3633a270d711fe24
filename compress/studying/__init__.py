"""The rooms of a study: what it says, which trials it means, in which order they run, and who runs them."""
