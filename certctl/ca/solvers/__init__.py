"""What proves to the CA that a name is ours: HTTP-01 and DNS-01 (RFC 8555 §8)."""
