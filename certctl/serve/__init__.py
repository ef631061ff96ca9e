"""The daemon that obtains a certificate for a first visitor: decisions on one event loop, the story on threads."""
