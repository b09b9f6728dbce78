"""Admission: AdmissionReviews in, the pure rules of `reconcile` and `manifests`, answers out; nothing is decided here."""
