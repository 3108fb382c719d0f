// One frame at a time. Keys and clicks are carried out one after the other: an answer is about the picture that is on the
// screen, and is on disk before the next picture comes.
"use strict";

const ORDERS = { uncertain: "most uncertain first", anomalous: "most anomalous first", time: "by time" };
const AHEAD = 4; // pictures to load before they are asked for
const SERVER_GONE = "The server does not answer. Your answers up to here are saved; start `make label` again, then reload.";

const element = (id) => document.getElementById(id);
const page = {};
for (const id of ["progress", "counts", "order", "figure", "picture", "map", "badge", "chosen", "caption", "timeline", "message",
  "range", "toggle"]) page[id] = element(id);

let state; // what the server says of all frames
let labels; // by a frame's number: label, source, notes
let sourceOf; // by a frame's number: name, first, count
let order, rank; // numbers in the order they are asked, and the position of each
let at = 0; // number of the frame that is shown
let anchor = null; // the other end of the range that is chosen
let isRangeHeld = false; // by the button, as by shift
let skipped = new Set();
let trail = []; // frames that were answered or skipped, for undo
let showsMap = true;
let queue = Promise.resolve();
let waiting = 0;

const isDone = (number) => labels.has(number) && labels.get(number).source !== "llm";
const pictureUrl = (number) => `/frames/${number}/picture?v=${state.version}`;
const rangeOf = () => [Math.min(anchor ?? at, at), Math.max(anchor ?? at, at)];

function enqueue(action) {
  waiting += 1;
  queue = queue.then(action).catch((error) => say(error.message)).finally(() => { waiting -= 1; });
}

function say(text, isGood = false) {
  page.message.textContent = text;
  page.message.className = isGood ? "done" : "";
  page.message.hidden = !text;
}

async function ask(path, body) {
  const request = body && { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  let response;
  try {
    response = await fetch(path, request);
  } catch {
    throw new Error(SERVER_GONE);
  }
  const said = await response.text();
  if (!response.ok) throw new Error(response.status === 409 ? JSON.parse(said).error : `The server refused: ${said}`);
  return JSON.parse(said);
}

function take(changed) {
  for (const [number, said] of Object.entries(changed)) {
    if (said) labels.set(Number(number), said);
    else labels.delete(Number(number));
  }
}

function choose(name) {
  order = state.orders[name];
  rank = new Array(order.length);
  order.forEach((number, position) => { rank[number] = position; });
}

// The first frame to ask after a frame, in the order; frames that were skipped come again once all others are done.
function nextOpen(number, includesItself = false) {
  const start = rank[number] + (includesItself ? 0 : 1);
  let again = null;
  for (let step = 0; step < order.length; step += 1) {
    const candidate = order[(start + step) % order.length];
    if (isDone(candidate)) continue;
    if (!skipped.has(candidate)) return candidate;
    again ??= candidate;
  }
  skipped.clear();
  return again;
}

async function show(number) {
  at = number;
  const url = pictureUrl(number);
  page.map.hidden = true;
  page.picture.src = url;
  try {
    await page.picture.decode();
  } catch {
    describe();
    throw new Error(`Frame ${state.indices[number]} of ${sourceOf[number].name} can't be shown. ${SERVER_GONE}`);
  }
  if (showsMap && state.scores[number] !== null) {
    page.map.src = `/frames/${number}/map?v=${state.version}`;
    page.map.hidden = !(await page.map.decode().then(() => true, () => false));
  }
  describe();
  let ahead = number;
  for (let step = 0; step < AHEAD && (ahead = order[rank[ahead] + 1]) !== undefined; step += 1) {
    new Image().src = pictureUrl(ahead);
  }
}

function describe() {
  const said = labels.get(at), source = sourceOf[at], score = state.scores[at], [first, last] = rangeOf();
  page.figure.className = said ? said.label : "";
  page.badge.hidden = !said;
  page.badge.textContent = said ? said.label + { human: "", llm: ", says a model", folder: ", by its folder" }[said.source] : "";
  const parts = [`${source.name}, frame ${state.indices[at]}`, `${state.times_s[at].toFixed(2)} s`];
  if (score !== null) parts.push(`score ${score.toFixed(3)}, anomalous from ${state.threshold.toFixed(3)}`);
  if (said && said.notes) parts.push(said.notes);
  page.chosen.hidden = anchor === null;
  page.chosen.textContent = `range of ${last - first + 1} frames`;
  page.caption.textContent = parts.join(" · ");
  page.range.setAttribute("aria-pressed", anchor !== null);
  page.toggle.setAttribute("aria-pressed", showsMap && !page.toggle.disabled);
  const counts = { normal: 0, abnormal: 0 };
  let byModel = 0;
  for (const each of labels.values()) {
    if (each.source === "llm") byModel += 1;
    else counts[each.label] += 1;
  }
  const done = counts.normal + counts.abnormal;
  page.progress.max = order.length;
  page.progress.value = done;
  page.counts.textContent = `${done} of ${order.length}: ${counts.abnormal} abnormal, ${counts.normal} normal` +
    (byModel ? `; ${byModel} by a model` : "");
  draw();
}

const lastOf = (source) => source.first + source.count - 1;
const spanOf = (source) => [state.times_s[source.first], Math.max(state.times_s[lastOf(source)] - state.times_s[source.first], 1e-9)];

function draw() {
  const canvas = page.timeline, scale = window.devicePixelRatio || 1;
  const width = canvas.clientWidth, height = canvas.clientHeight, source = sourceOf[at], [start, span] = spanOf(source);
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  const pen = canvas.getContext("2d"), style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(`--${name}`);
  pen.scale(scale, scale);
  const x = (number) => 4 + (width - 8) * (state.times_s[number] - start) / span;
  const endOf = (number) => Math.max(number < lastOf(source) ? x(number + 1) : width - 2, x(number) + 1);
  const band = height - 14, top = 16;
  const y = (score) => band - 4 - (band - 4 - top) * score;
  if (anchor !== null) {
    const [first, last] = rangeOf();
    pen.fillStyle = "#ffffff40";
    pen.fillRect(x(first), 0, endOf(last) - x(first), height);
  }
  for (let number = source.first; number <= lastOf(source); number += 1) {
    const said = labels.get(number);
    if (!said) continue;
    pen.fillStyle = colour(said.label);
    const tall = said.source === "llm" ? 4 : 10;
    pen.fillRect(x(number), height - 2 - tall, endOf(number) - x(number), tall);
  }
  if (state.threshold !== null) {
    pen.strokeStyle = colour("faint");
    pen.setLineDash([4, 4]);
    pen.beginPath();
    pen.moveTo(0, y(state.threshold));
    pen.lineTo(width, y(state.threshold));
    pen.stroke();
    pen.setLineDash([]);
    pen.strokeStyle = colour("text");
    pen.beginPath();
    for (let number = source.first, down = false; number <= lastOf(source); number += 1) {
      const score = state.scores[number];
      if (score !== null) pen[down ? "lineTo" : "moveTo"](x(number), y(score));
      down = score !== null;
    }
    pen.stroke();
  }
  pen.fillStyle = colour("faint");
  pen.font = "11px system-ui, sans-serif";
  if (state.threshold === null) pen.fillText("no scores: run the pipeline scoring for them, and for maps", 4, (band + top) / 2);
  pen.fillText(`${start.toFixed(1)} s`, 4, 11);
  pen.textAlign = "right";
  pen.fillText(`${(start + span).toFixed(1)} s`, width - 4, 11);
  pen.fillStyle = "#ffe45e";
  pen.fillRect(x(at) - 1, 0, 2, height);
}

// The frame of the source that is shown whose time is nearest to a place on the timeline.
function frameAt(event) {
  const box = page.timeline.getBoundingClientRect(), source = sourceOf[at], [start, span] = spanOf(source);
  const time = start + span * (event.clientX - box.left - 4) / (box.width - 8);
  let low = source.first, high = lastOf(source);
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (state.times_s[middle] <= time) low = middle;
    else high = middle;
  }
  return time - state.times_s[low] < state.times_s[high] - time ? low : high;
}

async function go(number, extends_) {
  if (extends_ || isRangeHeld) anchor ??= at;
  else anchor = null;
  const source = sourceOf[at];
  const [least, most] = anchor === null ? [0, order.length - 1] : [source.first, lastOf(source)];
  await show(Math.min(Math.max(number, least), most));
}

function clearRange() {
  anchor = null;
  isRangeHeld = false;
}

async function advance() {
  clearRange();
  const next = nextOpen(at);
  if (next === null) {
    describe();
    say("Every frame has a label. `make run` trains on them.", true);
  } else {
    say("");
    await show(next);
  }
}

async function answer(label) {
  const [first, last] = rangeOf();
  take(await ask("/answer", { first, last, label }));
  trail.push({ number: at, isSkip: false });
  await advance();
}

async function skip() {
  skipped.add(at);
  trail.push({ number: at, isSkip: true });
  await advance();
}

async function undo() {
  const last = trail.at(-1);
  if (last && last.isSkip) {
    skipped.delete(last.number);
  } else {
    const changed = await ask("/undo", {});
    take(changed);
    if (!Object.keys(changed).length) return say("There is nothing to undo.");
  }
  trail.pop();
  clearRange();
  say("");
  return show(last ? last.number : at);
}

async function toggleMap() {
  showsMap = !showsMap;
  await show(at);
}

async function toggleRange() {
  const isNew = anchor === null;
  clearRange();
  if (isNew) {
    anchor = at;
    isRangeHeld = true;
  }
  describe();
}

const ACTIONS = {
  abnormal: () => answer("abnormal"), normal: () => answer("normal"), skip, undo, toggle: toggleMap, range: toggleRange,
  back: () => go(at - 1, false), forward: () => go(at + 1, false),
};
const KEYS = { a: "abnormal", n: "normal", s: "skip", u: "undo", m: "toggle" };

function onKey(event) {
  if (!state || event.ctrlKey || event.metaKey || event.altKey || event.target === page.order) return;
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key], name = KEYS[event.key.toLowerCase()];
  if (step) {
    event.preventDefault();
    if (!event.repeat || !waiting) enqueue(() => go(at + step, event.shiftKey));
  } else if (event.key === "Escape") {
    enqueue(async () => { clearRange(); describe(); });
  } else if (name && !event.repeat) {
    enqueue(ACTIONS[name]);
  }
}

async function start() {
  state = await ask("/state");
  labels = new Map(Object.entries(state.labels).map(([number, said]) => [Number(number), said]));
  sourceOf = [];
  for (const source of state.sources) {
    source.first = sourceOf.length;
    for (let step = 0; step < source.count; step += 1) sourceOf.push(source);
  }
  page.toggle.disabled = state.threshold === null;
  for (const name of Object.keys(state.orders)) page.order.add(new Option(ORDERS[name], name));
  choose(page.order.value);
  await show(nextOpen(order[0], true) ?? order[0]);
}

document.addEventListener("keydown", onKey);
page.order.addEventListener("change", () => enqueue(async () => {
  choose(page.order.value);
  page.order.blur();
  await show(nextOpen(order[0], true) ?? order[0]);
}));
for (const name of Object.keys(ACTIONS)) {
  element(name).addEventListener("click", () => { if (state) enqueue(ACTIONS[name]); });
}
for (const kind of ["pointerdown", "pointermove"]) {
  page.timeline.addEventListener(kind, (event) => {
    if (!state || !(event.buttons & 1) || (kind === "pointermove" && waiting)) return;
    if (kind === "pointerdown") page.timeline.setPointerCapture(event.pointerId);
    const number = frameAt(event);
    enqueue(() => go(number, event.shiftKey));
  });
}
window.addEventListener("resize", () => { if (state) draw(); });
enqueue(start);
