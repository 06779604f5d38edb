"""Typed settings: read, checked as a whole, and rendered."""
