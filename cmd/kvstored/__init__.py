"""kvstored: the command that runs one server."""
