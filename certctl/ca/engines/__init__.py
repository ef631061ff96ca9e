"""What speaks ACME to the CA: certbot's own library in this process, or certbot as a program."""
