"""Run certctl as ``python -m certctl``."""

from certctl.cli import main

main()
