"""The one-file bundle for a device, and the command that runs inside it."""
