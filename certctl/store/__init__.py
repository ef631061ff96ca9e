"""The truth: what certctl knows, in a database; the files nginx reads are its mirror."""
