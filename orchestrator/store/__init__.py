"""Where results live: storage, records, leases, step folders, and the working copy of a bucket."""
