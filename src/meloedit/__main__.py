"""The program ``meloedit``, also as ``python -m meloedit``: quiet about Ctrl-C from its first import on."""

import sys


def main() -> None:
    """Run the command line."""
    try:
        from .cli.app import main as run
    except KeyboardInterrupt:  # importing takes a while, and no command has begun
        sys.stderr.write("interrupted: nothing was changed\n")
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
