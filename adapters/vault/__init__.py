"""The vault: secrets encrypted in the database, their key in a file that only the server's user can read."""
