"""`python -m forebay_ops.cli`: the `forebay` command of the Python that runs it."""

from . import main

main()
