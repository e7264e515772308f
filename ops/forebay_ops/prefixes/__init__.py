"""Finding what defeats prefix caches: a static prefix that changes from request to request."""
