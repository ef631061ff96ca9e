"""What certctl does, one sentence a module: each story reads top to bottom."""
