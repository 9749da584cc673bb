"""Searches around the checker: certificates for claims, models against them. Nothing here is trusted."""
