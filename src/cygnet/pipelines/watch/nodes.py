"""Nodes of watch. One of them lasts as long as the source is watched; what it stores meanwhile is in its handles."""

import threading

from cygnet.endpoints.outbox import Alerts
from cygnet.endpoints.versions import ModelVersion
from cygnet.model.scoring.live_scores import LiveScorer
from cygnet.model.scoring.live_source import LiveSource
from cygnet.model.scoring.watch_parts import WatchParts
from cygnet.model.serving.packaging import PackagedDetector
from cygnet.parameters.scoring import Scoring
from cygnet.parameters.watch import Watch
from cygnet.pipelines.watch.watching import Watcher, WatchRun, stopped_by_signals
from cygnet.reports import WatchReport


def prepare_scorer(champion_detector: PackagedDetector, champion: ModelVersion, scoring: Scoring) -> LiveScorer:
    """Prepare the champion for frames that come one after the other.

    Args:
        champion_detector: The champion.
        champion: Its name and version.
        scoring: `interval_s`, `crop`, `threshold`, `smoothing_s` and `events`.
    """
    return LiveScorer(champion_detector.scorer, scoring, {"name": champion.name, "version": champion.version})


def watch_source(
    live: LiveSource, live_scorer: LiveScorer, watch_parts: WatchParts, alerts: Alerts, watch: Watch
) -> WatchRun:
    """Score what comes until it ends, `watch.duration_s` is over, or SIGINT or SIGTERM arrives; then store the rest.

    Args:
        live: What is watched.
        live_scorer: The champion.
        watch_parts: Where scores and events go.
        alerts: Where alerts go.
        watch: All parameters of the section.

    Raises:
        Exception: Whatever made reading fail for good; what was scored before is stored.
    """
    stopped = threading.Event()
    scores, events = watch_parts.scores(live.folder), watch_parts.events(live.folder)
    reader = live.reader(scores, live_scorer.seeing, watch, stopped)
    with stopped_by_signals(stopped), alerts.open(live.folder, watch.alerts) as outbox:
        watcher = Watcher(live_scorer, reader, scores, events, outbox)
        watcher.watch(watch, stopped)
    if reader.error is not None:
        raise reader.error
    return watcher.run()


def write_watch_report(watch_run: WatchRun, live_scorer: LiveScorer) -> WatchReport:
    """Sum up: what was seen, scored and left out, outages, events and alerts.

    Returns:
        The content of `watch_report.json`.
    """
    seeing, scored = live_scorer.seeing, watch_run.frames
    return {
        "model": live_scorer.model,
        "source": watch_run.source,
        "threshold": live_scorer.threshold,
        "crop": seeing.view,
        "interval_s": seeing.interval_s,
        "seconds": watch_run.seconds,
        "frames_seen": scored + watch_run.losses.left_out + sum(watch_run.failed_frames.values()),
        "frames": scored,
        "frames_left_out": watch_run.losses.left_out,
        "failed_frames": dict(watch_run.failed_frames),
        "anomalous_frames": watch_run.anomalous_frames,
        "delay_s": {"mean": watch_run.delay_s / scored, "max": watch_run.longest_delay_s} if scored else None,
        "outages": watch_run.losses.outages,
        "outage_s": watch_run.losses.outage_s,
        "events": watch_run.events,
        "alerts": watch_run.alerts,
    }
