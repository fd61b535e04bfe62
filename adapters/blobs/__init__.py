"""Content-addressed files of each workspace, over fsspec."""
