"""Which edit answers a request: the store as vLLM follows it, and the routes. It knows no model runner."""
