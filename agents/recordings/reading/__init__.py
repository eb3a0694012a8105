"""What the readers of recordings share: files and archives, pictures, video, tables, units, the order of the rows."""
