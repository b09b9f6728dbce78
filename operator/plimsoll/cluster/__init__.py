"""The cluster: connection, server-side apply, status, listing. All I/O with the API server is here."""
