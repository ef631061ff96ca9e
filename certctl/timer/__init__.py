"""What makes renewal happen by itself: a systemd timer, or a line for cron."""
