"""Making a server know what the adapter needs of it: search attributes, and how long it keeps closed workflows.

Idempotent, so that every worker may do it at its start.
"""

from datetime import timedelta
from typing import Any

import structlog
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.namespace.v1 import NamespaceConfig
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest, ListSearchAttributesRequest
from temporalio.api.workflowservice.v1 import UpdateNamespaceRequest
from temporalio.client import Client
from temporalio.common import SearchAttributeIndexedValueType, SearchAttributeKey
from temporalio.service import RPCError, RPCStatusCode

from clara_dicom_adapter.errors import TemporalUnavailable
from clara_dicom_adapter.temporal import attributes

log = structlog.get_logger("clara_dicom_adapter.temporal")

_TYPES = {
    SearchAttributeIndexedValueType.KEYWORD: (IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD, "Keyword"),
    SearchAttributeIndexedValueType.KEYWORD_LIST: (IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD_LIST, "KeywordList"),
    SearchAttributeIndexedValueType.INT: (IndexedValueType.INDEXED_VALUE_TYPE_INT, "Int"),
    SearchAttributeIndexedValueType.BOOL: (IndexedValueType.INDEXED_VALUE_TYPE_BOOL, "Bool"),
}


def flag(key: SearchAttributeKey[Any]) -> str:
    """A search attribute as ``temporal server start-dev --search-attribute`` takes it."""
    return f"{key.name}={_TYPES[key.indexed_value_type][1]}"


_DENIED = {RPCStatusCode.PERMISSION_DENIED, RPCStatusCode.UNIMPLEMENTED}


async def missing(client: Client) -> list[SearchAttributeKey[Any]]:
    """The search attributes that the namespace lacks; raises RPCError."""
    known = await client.operator_service.list_search_attributes(
        ListSearchAttributesRequest(namespace=client.namespace), retry=True
    )
    return [key for key in attributes.ALL if key.name not in known.custom_attributes]


async def register(client: Client) -> None:
    """Add the search attributes that the namespace lacks: a workflow that sets an unknown one would be stuck.

    A managed server may not even tell which it has; then it is taken on trust, with a warning.

    Raises:
        TemporalUnavailable: The server did not answer, or does not let us add what is missing; the text says how to.
    """
    lacking: list[SearchAttributeKey[Any]] = []
    try:
        lacking = await missing(client)
        if lacking:
            types = {key.name: _TYPES[key.indexed_value_type][0] for key in lacking}
            await client.operator_service.add_search_attributes(
                AddSearchAttributesRequest(namespace=client.namespace, search_attributes=types), retry=True
            )
            log.info("search_attributes_registered", namespace=client.namespace, count=len(lacking))
    except RPCError as error:
        if error.status is RPCStatusCode.ALREADY_EXISTS:  # another worker was faster
            return
        if error.status in _DENIED and not lacking:
            log.warning("search_attributes_not_listed", namespace=client.namespace, reason=error.message)
            return
        flags = " ".join(f"--name {key.name} --type {_TYPES[key.indexed_value_type][1]}" for key in lacking)
        remedy = f"; an administrator has to run: temporal operator search-attribute create {flags}" if flags else ""
        raise TemporalUnavailable(f"search attributes cannot be registered: {error.message}{remedy}") from error


async def set_retention(client: Client, retention: timedelta) -> None:
    """Set how long the namespace keeps closed workflows."""
    config = NamespaceConfig()
    config.workflow_execution_retention_ttl.FromTimedelta(retention)
    try:
        await client.workflow_service.update_namespace(
            UpdateNamespaceRequest(namespace=client.namespace, config=config), retry=True
        )
    except RPCError as error:
        raise TemporalUnavailable(f"the retention cannot be set: {error.message}") from error
