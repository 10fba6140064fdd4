"""Data that ships with the package: the provider catalogue and the price rows."""
