"""A private world for the demo and the end-to-end tests: Pebble, DNS, an approval endpoint and nginx."""
