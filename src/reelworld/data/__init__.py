"""Files to clips: readers, the recording store, splits, windows, the loader and the token store.

Start at ``dataset.py`` (open a folder or a file), then ``windows.py`` and ``loader.py`` (batches).
``options.py`` imports neither numpy nor torch, so the command line can use it for its flags.
"""
