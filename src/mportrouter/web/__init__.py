"""The front door: everything between an accepted connection and the relay."""
