"""What an endpoint at Databricks serves: entities by name, and the share of the traffic that each one gets."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cygnet.endpoints.versions import ModelVersion

if TYPE_CHECKING:
    from databricks.sdk.service.serving import (
        EndpointCoreConfigInput,
        EndpointCoreConfigOutput,
        EndpointPendingConfig,
        ServedEntityInput,
        ServingEndpointDetailed,
    )


@dataclass(frozen=True)
class Layout:
    """Served entities by name, and the percentage of the traffic that each one gets."""

    entities: dict[str, "ServedEntityInput"]
    traffic: dict[str, int]
    exists: bool = True  # False: there is no endpoint yet

    @classmethod
    def of(cls, config: "EndpointCoreConfigOutput | None") -> "Layout":
        """Read the layout of an endpoint's active configuration."""
        from databricks.sdk.service.serving import ServedEntityInput

        served = (config.served_entities if config else None) or []
        entities = {str(entity.name): ServedEntityInput.from_dict(entity.as_dict()) for entity in served}
        routes = (config.traffic_config.routes if config and config.traffic_config else None) or []
        routed = {route.served_entity_name or route.served_model_name: route.traffic_percentage for route in routes}
        return cls(entities, {name: routed.get(name, 0) for name in entities})

    def name_of(self, model: ModelVersion) -> str | None:
        """Find the entity that serves a version; None if there is none."""
        of_model = (model.name, model.version)
        return next((name for name, e in self.entities.items() if (e.entity_name, e.entity_version) == of_model), None)

    def is_current(self, entity: "ServedEntityInput") -> bool:
        """Tell whether an entity is served already, with the same settings."""
        served = self.entities.get(str(entity.name))
        return served is not None and _settings_of(served) == _settings_of(entity)

    def config(self, endpoint: str) -> "EndpointCoreConfigInput":
        """Give the configuration that asks an endpoint for this layout."""
        from databricks.sdk.service.serving import EndpointCoreConfigInput, Route, TrafficConfig

        routes = [Route(served_entity_name=name, traffic_percentage=part) for name, part in self.traffic.items()]
        return EndpointCoreConfigInput(
            name=endpoint,
            served_entities=list(self.entities.values()),
            traffic_config=TrafficConfig(routes=routes),
        )


def progress_of(endpoint: "ServingEndpointDetailed") -> str:
    """Describe the state of each served entity: of the pending update if there is one."""
    config: EndpointPendingConfig | EndpointCoreConfigOutput | None = endpoint.pending_config or endpoint.config
    states = []
    for entity in (config.served_entities if config else None) or []:
        if entity.state is not None and entity.state.deployment is not None:
            message = entity.state.deployment_state_message
            states.append(f"{entity.name} is {entity.state.deployment.value}{f' ({message})' if message else ''}")
    return ", ".join(states) or "the workspace reports no progress"


def _settings_of(entity: "ServedEntityInput") -> tuple[Any, ...]:
    """The settings of an entity that Cygnet sets."""
    return (
        entity.workload_size,
        entity.workload_type,
        entity.scale_to_zero_enabled,
        entity.environment_vars or {},
    )
