"""One recipe's way: stages on disk, passes one after the other, goals, the Record, the artifact."""
