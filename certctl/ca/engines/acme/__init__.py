"""Engine ``acme``: an order in this process, with the library that certbot is built on."""
