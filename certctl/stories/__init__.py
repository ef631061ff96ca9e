"""What certctl does, one story a module: each reads from top to bottom as the sentence it carries out."""
