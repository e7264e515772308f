"""What this project would save on the calls of an existing log: read, looked through in order, added up."""
