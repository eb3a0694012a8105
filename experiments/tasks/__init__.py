"""Published tasks of the liquid networks, as commands that train several cores with one budget."""
