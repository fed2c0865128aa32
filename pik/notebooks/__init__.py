"""What a notebook shows: investigations, the steps of a rollout, findings, charts, tables, inputs and the banner."""
