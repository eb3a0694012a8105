"""Pictures for people: what the env's human view and all films are drawn with."""
