"""Party 3: the certificate authority. Nothing heavy is imported here: certbot loads this package for our plugin."""
