"""The embedded Clara Platform: the same protocol as the real one, which is no longer distributed.

How it works: gRPC servicers and the Results Service's HTTP routes write to one SQLite database and to payload folders,
both durable before they answer. A started job is a Temporal workflow (``workflows.platform_job``) whose activities call
:class:`runner.JobRunner` here; :class:`service.PlatformService` puts it together.
"""
