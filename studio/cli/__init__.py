"""The command line: `python -m studio COMMAND`. Every action of a tab is a command, and calls the same functions."""
