"""The HTTP floor: the only place that knows JSON, statuses and v2 error numbers."""
