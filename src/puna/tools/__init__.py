"""Tools that really run: what a tool is, the loop that runs them, and those that Puna brings along.

It knows `ChatModel` and the vocabulary of chat.py; no engine, no tokens, no server.
"""
