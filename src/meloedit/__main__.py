"""``python -m meloedit``."""

from .cli.app import main

main()
