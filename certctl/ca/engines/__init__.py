"""The two engines that speak ACME (RFC 8555): the acme library in this process, and the program certbot."""
