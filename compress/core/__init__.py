"""What every room of compress stands on: units, the registry, files, seeds, progress. It knows no other room."""
