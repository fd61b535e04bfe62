"""What a client works with, one file per noun. Map: collection (what all share), runs (jobs and runs), follow (live logs and states),
models, computes (nodes too), environments (experiments too), endpoints, workspaces (members, journal), people (users and tokens)."""
