"""Conversations on disk: kept, found again, branched, exported."""
