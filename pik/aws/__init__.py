"""AWS as the kit reads and calls it: stacks, stores, queues, the event source mapping. Knows nothing of rollouts.

Import from the modules, such as :mod:`pik.aws.stack` and :mod:`pik.aws.reading`.
"""
