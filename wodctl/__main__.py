"""`python -m wodctl` is `wodctl`."""

from wodctl.cli import main

main()
