"""The operating system: processes, files, locks, the clock; other folders use it only through these modules."""
