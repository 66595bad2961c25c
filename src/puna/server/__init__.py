"""The endpoint: OpenAI's and Azure's wire over any `ChatModel`.

It knows HTTP and `puna.chat`; no tokens, no tensors, and no model by name.
"""

from puna.server.app import create_app
from puna.server.serve import background, listen, serve, url_of

__all__ = ["background", "create_app", "listen", "serve", "url_of"]
