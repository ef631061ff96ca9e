"""The sandbox for the demo and the end-to-end tests: a private Pebble, DNS, approval endpoint and nginx."""
