"""The model's thread: requests that wait are gathered into one running batch, whose rows each have their own route."""
