"""One module per group of commands; each command is a function that typer turns into a parser."""
