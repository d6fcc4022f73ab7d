"""Conversations: what was said in one to four panes, kept on disk, with every version of every turn."""
