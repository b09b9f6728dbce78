"""The operator process: kopf watches, a work queue orders, one idempotent reconcile decides and applies."""
