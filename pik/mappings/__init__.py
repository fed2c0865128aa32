"""Mappings: how somebody else's record becomes an event. They run before sending; nothing is mapped in Lambda.

>>> from pik.mappings.catalog import find
>>> find("stripe").entity_id
('data.object.customer', 'data.object.id')
"""
