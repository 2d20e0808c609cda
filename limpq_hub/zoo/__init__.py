"""SHARE the results: artifact folders, the catalog of names, and loading."""
