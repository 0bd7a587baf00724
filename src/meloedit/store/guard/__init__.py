"""What keeps a damaged or hostile file from doing harm: limits of a connection, bounds of values, the whole check."""
