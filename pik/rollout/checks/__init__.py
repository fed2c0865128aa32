"""What must be proven of an environment, by real requests and reads: the catalog, and a module for each phase."""
