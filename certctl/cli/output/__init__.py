"""How a run speaks: JSON, lines for the journal, or text for people."""
