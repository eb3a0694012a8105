"""Help of the command: options read from source, pages laid out, advice on what was misspelt or is missing."""
