"""Who is connected to whom: wirings, how they are drawn, read and shown."""
