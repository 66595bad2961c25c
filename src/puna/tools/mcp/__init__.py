"""The Model Context Protocol: servers of others as tools, and Puna as a server for others.

The official SDK speaks it; it takes a second to import, so it is imported where it is used.
"""
