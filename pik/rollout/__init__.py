"""Roll out an environment phase by phase: plan, deploy, status, checks with evidence, rollback.

Import from the modules: what changes an environment is in :mod:`pik.rollout.deploy`, what it would change in
:mod:`pik.rollout.plan`, what must be proven in :mod:`pik.rollout.checks`, and who may go on in
:mod:`pik.rollout.gates`.
"""
