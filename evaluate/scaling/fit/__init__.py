"""The one fitter of every law."""
