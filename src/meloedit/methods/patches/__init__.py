"""Methods that add neurons beside a feed-forward, whose own weights stay as they are."""
