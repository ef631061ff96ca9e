"""nginx (party 4): renders server blocks, keeps the mirror, tests, swaps, reloads, and proves it by handshakes."""
