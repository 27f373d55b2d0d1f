"""A request comes in: its ID on the way through FastAPI and out again, and its SERVER span."""
