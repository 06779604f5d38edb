"""One module for each family of commands; `syncd.cli.main` finds them by name."""
