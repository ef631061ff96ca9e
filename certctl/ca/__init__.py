"""The certificate authority (party 3). No heavy module is imported here: certbot loads it for our plugin."""
