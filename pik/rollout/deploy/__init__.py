"""What changes an environment: deploy, promote, roll back, revert; and what is the case before and after."""
