"""May this be done? Evidence, approvals, and what is recorded of a decision."""
