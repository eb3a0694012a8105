"""Do liquid circuits keep driving under shift when others fail? One command; see `claim`."""
