"""Joules per image: sensors, recording, the methods that compute them, and an estimate."""
