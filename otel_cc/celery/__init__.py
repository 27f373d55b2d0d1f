"""Celery: the task goes on with the IDs of the request that asked for it. Importing this imports no Celery."""
