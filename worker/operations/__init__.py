"""What those who run the daemon look at and do: pipeline, destinations, adapters, rules, and what failed.

Input: the ledger, the settings and what the processes report of themselves. Output: the shapes of `worker.operations.
shapes`, the same for pages, API and commands. Only `resending` changes anything.
"""
