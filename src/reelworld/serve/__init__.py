"""Play worlds in the browser: ``server`` runs the page, ``app`` is its web interface, ``player`` one client's game."""
