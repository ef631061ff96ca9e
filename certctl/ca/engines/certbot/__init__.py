"""Engine ``certbot``: an order by the program certbot 5.8, as a child process."""
