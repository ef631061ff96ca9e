"""Party 4: nginx. Renders server blocks, keeps the mirror, tests, swaps, reloads and proves it on the wire."""
