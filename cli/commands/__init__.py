"""The commands, one subject per file; each file adds its own to the group."""
