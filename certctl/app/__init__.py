"""What a run decides about a host, for a command, a daemon and an API alike."""
