"""AE titles, sources and destinations as Kubernetes resources, where the settings choose that.

What an operator declares in the cluster is followed with a list and a watch, judged, and kept behind the same seam as
the SQL store (``configuration.entity_store``). The library ``kubernetes`` is imported by ``resources.server`` alone.
"""
