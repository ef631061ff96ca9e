"""Solvers present challenges (RFC 8555 §8) to the CA: http-01, dns-01 and dns-persist-01."""
