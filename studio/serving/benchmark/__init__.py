"""How fast a model answers: the same load put to several ways of serving it, measured from the client's side."""
