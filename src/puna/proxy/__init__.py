"""A local HTTPS proxy that answers for hosts that are gone, and lets every other host pass.

It knows addresses, certificates and bytes; it knows no models and no chat: what a program says to a
retired host is handed, decrypted and otherwise untouched, to an HTTP server at another address.
"""

RETIRED_HOSTS = ("models.inference.ai.azure.com", "models.github.ai")
