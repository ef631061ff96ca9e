"""The formats of a run's output: JSON, lines for the journal, or text for people."""
