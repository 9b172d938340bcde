"""Admission of callers: authentication, rate limits and revocations."""
