"""Where the shop finds its servers."""

import os

# The driver psycopg serves both the async engine of the API and the sync engine of the worker.
DATABASE_URL = os.environ.get("SHOP_DATABASE_URL", "postgresql+psycopg://localhost/shop")
BROKER_URL = os.environ.get("SHOP_BROKER_URL", "redis://localhost:6379/0")
