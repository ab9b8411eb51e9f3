"""A project of `dg` whose definitions run on Ray."""
