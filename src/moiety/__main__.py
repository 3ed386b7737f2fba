"""`python -m moiety`."""

from moiety.cli import main

main()
