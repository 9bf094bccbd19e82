"""Workshops on their way from a folder to a participant's home: found, rendered for one seat, installed."""
