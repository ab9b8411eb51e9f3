"""The definitions, in YAML and Python."""
