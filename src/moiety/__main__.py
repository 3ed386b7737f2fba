"""`python -m moiety`."""

from moiety.cli.app import main

main()
