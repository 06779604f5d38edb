"""The terminal: commands, what they print, and the exit codes they end with.

Nothing heavy is imported at the top of these modules: `syncd --help` must not pay for SQLAlchemy.
"""
