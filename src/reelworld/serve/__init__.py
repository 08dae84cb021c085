"""Play a world in the browser: ``server.serve`` runs it, ``app`` is the web side, ``player`` one tab's game."""
