"""A merge of adapters into their base: planned from headers, streamed tensor by tensor, proven at the end."""
