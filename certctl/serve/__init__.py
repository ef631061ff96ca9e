"""The daemon that gets a certificate for a first visitor: decisions on one loop, the story on threads."""
