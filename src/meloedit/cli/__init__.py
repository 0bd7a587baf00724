"""The command line ``meloedit``: thin commands that read options, call the library, and print."""
