"""Thin Celery tasks with id arguments, one module per worker process: a task calls a step, then rings for what it made.

A task whose row has moved on does nothing. Nothing in here is worth losing: the database knows what is left to do.
"""
