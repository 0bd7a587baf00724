"""What goes over the wire: the bodies of requests and answers, which the OpenAPI schema is made of."""
