"""The store: what certctl knows, in a database; the files that nginx reads are its mirror."""
