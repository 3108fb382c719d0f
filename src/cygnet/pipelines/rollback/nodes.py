"""Nodes of rollback."""

import logging

from cygnet.endpoints.versions import Decision, ModelVersion

logger = logging.getLogger(__name__)


def roll_back(previous_champion: ModelVersion) -> tuple[Decision, ModelVersion]:
    """Let the champion before the present one take its place: for the endpoint, and for the registry.

    It keeps its own tags, so that a second rollback goes on to the champion before it.
    """
    logger.info(
        "%s version %s takes its place as the champion again.", previous_champion.name, previous_champion.version
    )
    return Decision(previous_champion, is_promoted=True), previous_champion
