"""What keeps the repository true; not part of the package."""
