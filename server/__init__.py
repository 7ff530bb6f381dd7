"""The process around the service: delivery, callers, log, metrics, page, workers."""
