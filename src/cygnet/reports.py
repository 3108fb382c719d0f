"""The JSON reports that the pipelines write, declared key by key as `cygnet.tables` declares the tables.

Keys are stable: users, notebooks and checks read them. A key may be added, never renamed or moved. A value is null only
where its type says so. Scores, rates and metrics lie between 0 and 1 unless a unit is given. The abnormal class is the
positive one in every metric, and rows of the control kind `null` count only where the comment says so.
"""

from collections.abc import Mapping
from typing import Literal

from typing_extensions import TypedDict  # pydantic, which checks these shapes, takes typing's only from Python 3.12 on

# ---- parts that several reports share --------------------------------------------------------------------------------


class Model(TypedDict):
    """A registered model."""

    name: str
    version: str


class ScoreStatistics(TypedDict):
    """Anomaly scores of a group of images."""

    mean: float
    std: float  # of the population
    min: float
    max: float


class NormalScoreStatistics(ScoreStatistics):
    """Anomaly scores of normal images."""

    p99: float  # the 99th percentile


# ---- evaluation.json: the detector and the baselines on `test` -------------------------------------------------------


class Interval(TypedDict):
    """A 95 % confidence interval; frames are resampled, not images."""

    low: float
    high: float
    method: Literal["bootstrap", "clopper_pearson"]  # the exact bound, where every resample gives the same value


class AurocInterval(TypedDict):
    """The interval of AUROC, for the control kind."""

    auroc: Interval


class SeverityIntervals(AurocInterval):
    """The intervals of a third of the severities."""

    recall: Interval


class MetricIntervals(SeverityIntervals):
    """The intervals of the main metrics."""

    average_precision: Interval
    f1: Interval


class Metrics(TypedDict):
    """How well normal and abnormal images are separated, decided and calibrated."""

    auroc: float
    average_precision: float
    f1: float  # at the threshold
    recall: float  # at the threshold
    nll: float  # negative log-likelihood in nats, >= 0
    ece: float  # expected calibration error, over at most 15 bins of equal mass


class Localisation(TypedDict):
    """How well the anomaly map covers the masks."""

    pixel_average_precision: float
    pro_at_fpr_30pct: float  # per-region overlap up to a pixel false-positive rate of 0.3; chance is 0.15


class SeverityMetrics(TypedDict):
    """A third of the range of severities, against all normal images."""

    count: int  # abnormal images, >= 1
    auroc: float
    recall: float
    mean: float  # anomaly score of the abnormal images


class OverallSeverityMetrics(SeverityMetrics):
    """The same over all kinds."""

    intervals: SeverityIntervals


class ControlMetrics(ScoreStatistics):
    """The control kind `null` against all normal images: its label says nothing, so only the scores are described."""

    count: int  # images, >= 1
    auroc: float  # 0.5 is ideal
    intervals: AurocInterval


class KindMetrics(ScoreStatistics, Metrics):
    """One kind of anomaly against all normal images; the score statistics are of the abnormal images."""

    count: int  # abnormal images, >= 1
    intervals: MetricIntervals
    by_severity: dict[str, SeverityMetrics]  # low, middle, high; without those that have no image


class LocalisedKindMetrics(KindMetrics):
    """One synthetic kind, measured on the detector: the baselines have no map, labelled anomalies no mask."""

    localisation: Localisation | None  # null if no region is large enough


class ImageCounts(TypedDict):
    """What `test` holds."""

    normal: int  # images
    abnormal: int
    normal_frames: int
    abnormal_frames: int


class RateInterval(TypedDict):
    """Between which values a false-positive rate lies."""

    low: float
    high: float


class ThresholdRule(TypedDict):
    """How the threshold was chosen on `validation`."""

    rule: str  # `training.threshold.rule`
    promised_fpr: float | None  # the share of normal frames it lets be called anomalous; null with `max_f1`
    frames: int | None  # normal frames of `validation` from whose ranks the promise follows; null with `max_f1`
    fpr_interval: RateInterval | None  # 95 % of thresholds from so many frames have a rate in it; null with `max_f1`
    false_alarm_frames: int  # normal frames of `test` of which an image is called anomalous
    is_kept: bool | None  # false: more than chance explains, by a one-sided test at 2.5 %; null with `max_f1`


class SystemMetrics(Metrics):
    """The scores of one system, the detector or a baseline, measured on `test`."""

    counts: ImageCounts
    macro_auroc: float | None  # mean over the synthetic kinds; null without any
    intervals: MetricIntervals
    recall_at_fpr_1pct: float | None  # null below 100 normal frames
    threshold: float  # score from which an image is anomalous
    threshold_rule: ThresholdRule
    temperature: float  # the logits were divided by it; 0.5-5
    normal: NormalScoreStatistics
    abnormal: ScoreStatistics
    by_severity: dict[str, OverallSeverityMetrics]  # low, middle, high; without those that have no image
    by_kind: dict[str, LocalisedKindMetrics | KindMetrics | ControlMetrics]  # `real` and `null` included


class BaselineMetrics(SystemMetrics):
    """A baseline."""

    variant: dict[str, float]  # the setting chosen on `validation`: {}, {quantile} or {layer, k}


class ScoreMetrics(TypedDict):
    """What `anomaly_score` would be worth by one setting of `training.score`."""

    auroc: float
    average_precision: float
    macro_auroc: float | None  # mean over the synthetic kinds; null without any
    by_kind: dict[str, float]  # AUROC of each kind against all normal images; `real` and `null` included


class TrainingSummary(TypedDict):
    """How the detector was fitted."""

    checkpoint: str | None  # `training.checkpoint`; null: initialised from its configuration
    epochs: int  # that ran; early stopping may end before `training.epochs`
    images: int  # over all epochs
    seconds: float
    images_per_second: float
    seed: int  # `training.seed`


class DetectorMetrics(SystemMetrics):
    """The detector."""

    localisation: Localisation | None  # over all synthetic kinds; null if no region is large enough
    classifier_localisation: Localisation | None  # the same of the classifier's own map
    score: str  # `training.score`: which of `scores` this report is about
    scores: dict[str, ScoreMetrics]  # combined, classifier, normality
    training: TrainingSummary


class SeenFrames(TypedDict):
    """What is seen of the frames of one size."""

    tiles: int  # images of each frame, >= 1
    seen_frac: float  # share of a frame's pixels that is looked at, > 0
    smallest_object_px: float  # side of one of the model's patches, in the frame's pixels, > 0


class View(TypedDict):
    """What is seen of a frame."""

    view: str  # `scene.view`
    region: str | None  # `scene.region`, in words; null: everything
    ignore: str | None  # `scene.ignore`, in words; null: nothing
    by_frame_size: dict[str, SeenFrames]  # by `<width>x<height>`, of the train frames


class EvaluationReport(DetectorMetrics):
    """The content of `evaluation.json`."""

    view: View
    baselines: dict[str, BaselineMetrics]  # majority, pixel_statistics, median_mad, nearest_neighbour


# ---- parity.json: the served runtime against torch in float32, on `test` ---------------------------------------------


class ParityMetrics(TypedDict):
    """How far two runtimes are apart; controls count."""

    runtime: str  # the one that is served, a `RuntimeName`
    rows: int  # images that at least one of the two scored
    max_abs_score_difference: float  # NaN if an image lacks a score
    mean_abs_score_difference: float  # NaN if an image lacks a score
    decisions_agree_frac: float  # share of images on which both decide the same
    hardest_kind: str  # the kind with torch's lowest AUROC
    auroc_loss_hardest_kind: float  # torch's AUROC on it minus the served runtime's; below 0 if that is better


class ParityReport(ParityMetrics):
    """The content of `parity.json`."""

    passed: bool  # whether the limits in `serving.parity` hold; if not, the gate refuses the model
    reasons: list[str]  # the limits that are missed


# ---- serving_report.json: what the endpoint answered, and whether the challenger becomes the champion ----------------


class RequestBytes(TypedDict):
    """Size of the requests, in bytes."""

    mean: float
    max: int


class LatencyMs(TypedDict):
    """Time from a request to its response, in milliseconds."""

    p50: float
    p95: float


class ChampionAuroc(TypedDict):
    """The previous champion on the challenger's test images."""

    version: str
    auroc: float


class ServedMetrics(TypedDict):
    """What the responses of the endpoint say, once every image has a score."""

    normal: NormalScoreStatistics
    abnormal: ScoreStatistics
    false_alarm_frac: float  # share of the normal images that the model calls anomalous
    auroc: float
    champion: ChampionAuroc | None  # null: there was none, or `serving.gate.mode` is off
    max_abs_score_difference: float | None  # from `predictions`; null if an image is missing on either side
    parity: ParityReport | None  # stored with the model; null if it has none


class RequestMetrics(TypedDict):
    """The requests that the endpoint answered."""

    images: int  # that an answer came for
    requests: int
    retries: int
    request_bytes: RequestBytes | None  # null without a request
    latency_ms: LatencyMs | None  # null without a request


class ServingReport(RequestMetrics):
    """The content of `serving_report.json`. The metrics are null if an image has no score."""

    model: Model  # the challenger
    normal: NormalScoreStatistics | None
    abnormal: ScoreStatistics | None
    false_alarm_frac: float | None
    auroc: float | None
    champion: ChampionAuroc | None
    max_abs_score_difference: float | None
    parity: ParityReport | None
    gate: dict[str, str | float]  # the parameters `serving.gate`
    passed: bool | None  # whether the limits of the gate hold; null: `serving.gate.mode` is off
    reasons: list[str]  # the limits that are missed, or why an image has no score
    decision: Literal["promote", "refuse"]


# ---- calibration_report.json: the champion calibrated on new normal video -------------------------------------------


class CalibrationFrames(TypedDict):
    """The normal video; a frame without a score counts nowhere."""

    sources: list[str]  # names
    frames: int
    hours: float
    threshold_frames: int  # the second half of every source's frames, which sets the threshold
    threshold_hours: float


class SuccessorVerdict(TypedDict):
    """What the gate says of a version that would follow the champion."""

    model: Model  # the champion before
    old_auroc: float | None  # on test rows; null: nothing to compare by
    auroc: float | None  # the same for the successor
    gate: dict[str, str | float]  # `mode`, `min_auroc` and `max_auroc_loss` of `serving.gate`
    passed: bool | None  # null: `serving.gate.mode` is off
    reasons: list[str]  # the limits that are missed
    decision: Literal["promote", "refuse"]


class CalibrationReport(CalibrationFrames, SuccessorVerdict):
    """The content of `calibration_report.json`. Alarms and shares are of the frames that set the threshold."""

    crop: str | None  # `scoring.crop`; null: what the champion sees
    interval_s: float | None  # `scoring.interval_s`; null: every frame of a video
    rule: Literal["target_fpr", "max_alarms_per_hour"]  # what set the threshold
    old_threshold: float
    new_threshold: float
    promised_fpr: float  # share of normal frames that may be called anomalous
    old_anomalous_frac: float  # share of the frames that the champion called anomalous
    anomalous_frac: float  # the same with the new calibration
    max_alarms_per_hour: float | None  # `scoring.max_alarms_per_hour`
    alarms: int  # events at the new threshold
    alarms_per_hour: float
    alarms_per_hour_upper_bound: float  # Poisson, one-sided, 95 %


# ---- adaptation_report.json: new normal frames taken into the champion's subspace -----------------------------------


class AdaptationReport(SuccessorVerdict):
    """The content of `adaptation_report.json`. Of every source half of the frames may give axes; the others tell."""

    sources: list[str]  # names
    crop: str | None  # `scoring.crop`; null: what the champion sees
    interval_s: float | None  # `scoring.interval_s`; null: every frame of a video
    frames: int  # a frame without a score counts nowhere
    adapting_frames: int  # that may give axes
    distant_frames: int  # of them, those whose distance alone makes them anomalous
    strange_frac: float  # share of a frame's patches that lie farther than the median normal frame; median over frames
    axes: int  # added to the subspace, >= 1
    old_anomalous_frac: float | None  # share of the other frames that the champion calls anomalous; null: there is none
    anomalous_frac: float | None  # the same with the new axes


# ---- scoring_report.json: videos scored with the champion ------------------------------------------------------------


class SourceCounts(TypedDict):
    """One source."""

    frames: int  # with a score
    anomalous_frames: int
    failed_frames: int  # without a score
    events: int


class DelayS(TypedDict):
    """Seconds from the start of a labelled span to its first event; 0 if the event began earlier."""

    median: float
    max: float


class EventMetrics(TypedDict):
    """Events compared with the spans of time that are labelled abnormal."""

    spans: int
    found: int  # spans that an event overlaps
    event_recall: float | None  # found / spans; null without a span
    delay_s: DelayS | None  # null if no span is found
    false_alarms: int  # events that overlap no span
    normal_hours: float  # scored time that is not labelled abnormal
    false_alarms_per_hour: float | None  # null without normal time
    normal_in_events_frac: float | None  # share of the normal time that events cover; null without normal time


class LabelMetrics(EventMetrics):
    """The same, and what became of the labels."""

    unused_labels: int  # labels that match no scored frame


class FrameCounts(TypedDict):
    """What was scored."""

    frames: int  # with a score
    failed_frames: dict[str, int]  # by reason
    anomalous_frames: int
    events: int
    sources: dict[str, SourceCounts]  # by name


class ScoringReport(FrameCounts):
    """The content of `scoring_report.json`."""

    model: Model  # the champion
    threshold: float  # score from which a frame is anomalous
    crop: str  # which part of a frame was scored: square, whole or tiles
    interval_s: float | None  # `scoring.interval_s`; null: every frame of a video
    frames_of_runs_before: int  # scored by an earlier run and reused
    seconds: float  # this run took to score its frames
    frames_per_s: float | None  # in this run; null if it scored none
    labels: LabelMetrics | None  # null without labels of these sources


# ---- watch_report.json: a source that was watched --------------------------------------------------------------------


class AlertCounts(TypedDict):
    """What became of alerts."""

    sent: int  # by this run, those that an earlier one had left included
    waiting: int  # for the next run
    refused: int  # by the receiver, in this run


class DelaysS(TypedDict):
    """Seconds from when a frame arrived, or its file was written, until it had its score."""

    mean: float
    max: float


class WatchReport(TypedDict):
    """The content of `watch_report.json`: one run, which may have continued the tables of earlier ones."""

    model: Model  # the champion
    source: str  # as in tables
    threshold: float  # score from which a frame is anomalous
    crop: str  # which part of a frame was scored: square, whole or tiles
    interval_s: float | None  # `scoring.interval_s`; null: every frame
    seconds: float  # that the run lasted
    frames_seen: int  # at this interval: the sum of the next two and of failed_frames
    frames: int  # with a score
    frames_left_out: int  # to keep up
    failed_frames: dict[str, int]  # by reason
    anomalous_frames: int
    delay_s: DelaysS | None  # null: no frame was scored
    outages: int  # times that the source was away, also at the start
    outage_s: float  # sum of those that ended
    events: int  # that ended in this run
    alerts: AlertCounts


# ---- labelling_report.json: frames labelled by a vision model --------------------------------------------------------


class Agreement(TypedDict):
    """A person's labels and the model's, on the same frames."""

    frames: int  # >= 1
    agree_frac: float
    confusion: dict[str, dict[str, int]]  # frames by the person's label, then by the model's: abnormal, normal
    kappa: float | None  # Cohen's, -1 to 1, 0 is chance; null: both always say the same one label
    kappa_interval: Interval | None  # null: a person, or the model, only ever gives one label


class LabellingReport(TypedDict):
    """The content of `labelling_report.json`. Frames with a human label count in agreement and failures."""

    model: str  # `labelling.endpoint.model`
    url: str | None  # `labelling.endpoint.url`
    frames: int  # without a human label that were picked
    labels: dict[str, int]  # abnormal, normal: frames that get this label
    review_below: float  # `labelling.review_below`
    review_frames: int  # with a lower confidence: they get no label
    failed_frames: dict[str, int]  # by reason: they get no label
    cached_answers: int  # of runs before, reused
    requests: int  # of this run, retries included
    tokens: int  # of this run
    seconds: float  # this run took to ask
    agreement: Agreement | None  # of all answers; null: there is none about a frame with a human label
    sure_agreement: Agreement | None  # of those that are at least as sure as `review_below`


# ---- pretraining_report.json: the carried checkpoint -----------------------------------------------------------------


class PretrainingSummary(TypedDict):
    """How the checkpoint was made."""

    seed: int
    images_seen: int  # each once; half of them normal
    kinds_seen: list[str]
    textures_seen: list[str]
    steps: int
    seconds: float
    loss: float  # image loss + patch loss in nats, the last mean that was recorded
    parameters: int  # of the network, both heads included


class PairMetrics(TypedDict):
    """Pairs of a normal image and the same image with an anomaly; nothing is calibrated."""

    pairs: int
    auroc: float
    nll: float  # nats, >= 0
    patch_average_precision: float | None  # null where no patch is abnormal


class PairMetricsByKind(PairMetrics):
    """All pairs of the kinds that pretraining has seen, and each kind alone."""

    by_kind: dict[str, PairMetrics]  # seen and unseen kinds


class PretrainingReport(TypedDict):
    """The content of `pretraining_report.json`."""

    pretraining: PretrainingSummary
    held_out: PairMetricsByKind  # scenes of textures that pretraining left out
    swan: PairMetricsByKind  # frames of the sample video


def title_of(name: str) -> str:
    """Write the name of a kind or a baseline as words."""
    words = {"none": "normal", "null": "control", "median_mad": "median of the frames"}
    return words.get(name, name.replace("_", " "))


def list_numbers(report: Mapping[str, object], prefix: str) -> dict[str, float]:
    """Flatten a report for a metrics store.

    Returns:
        `prefix` and the keys that lead to a number, joined by dots, and the number. Strings and nulls are left out.
    """
    numbers: dict[str, float] = {}
    for key, value in report.items():
        if isinstance(value, dict):
            numbers |= list_numbers(value, f"{prefix}.{key}")
        elif isinstance(value, int | float):
            numbers[f"{prefix}.{key}"] = float(value)
    return numbers
