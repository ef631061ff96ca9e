"""An order by certbot as a program."""
