"""How fast the model is, against the plain way of computing it."""
