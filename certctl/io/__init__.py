"""The only places that touch the operating system: processes, files, locks, the clock."""
