"""Reports on C1, C2 and C3 of any network."""
