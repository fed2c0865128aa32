"""Whether the stores agree: of a window, and of one event; and how rows that are missing are written again."""
