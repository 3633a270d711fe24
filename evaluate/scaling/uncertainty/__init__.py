"""How sure a fitted law is: of its parameters, and of what it predicts."""
