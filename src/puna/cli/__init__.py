"""The command line: the only place where parts are joined.

Modules here import the floors below inside functions, so that `puna --help` stays quick.
"""
