"""What the resources of all backends have in common."""
