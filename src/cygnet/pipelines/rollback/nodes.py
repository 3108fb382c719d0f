"""Nodes of rollback."""

import logging

from cygnet.endpoints.versions import Decision, ModelVersion

logger = logging.getLogger(__name__)


def roll_back(previous_champion: ModelVersion) -> tuple[Decision, ModelVersion]:
    """Restore the previous champion: its traffic at the endpoint, and its alias in the registry.

    It keeps its own tags, so a second rollback reaches the champion before that one.
    """
    logger.info(
        "%s version %s takes its place as the champion again.", previous_champion.name, previous_champion.version
    )
    return Decision(previous_champion, is_promoted=True), previous_champion
