"""The schedule of renewals: a systemd timer, or a line for cron."""
