"""Complete verification."""
