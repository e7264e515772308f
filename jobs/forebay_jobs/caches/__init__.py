"""The two stores behind reuse: answers by digest in Redis, and questions by meaning in Qdrant."""
