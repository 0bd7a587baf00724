"""``python -m meloedit``."""

from .cli import main

main()
