// The page of `rtstyle serve`: camera -> JPEG -> server -> JPEG -> canvas. The protocol is in rtstyle/web/protocol.py.

import { styleTile, shortcuts, fullScreen } from "/controls.js";
import { seekable } from "/webm.js";

const VERSION = 1, REQUEST_BYTES = 8, REPLY_BYTES = 12, KEEP_COLORS = 1, PREPARING = 2, OWN_IMAGE = 128;
const QUALITY = 0.85;
const LONGEST = 800; // pixels of an image that becomes a style: larger ones are not looked at
const LOST_MS = 3000; // an answer that takes longer is not waited for
const INDEXED_BYTES = 1 << 30;
const HUNG_MS = 2000; // a visitor is warned when none came for so long

const $ = (id) => document.getElementById(id);
const video = $("source"), view = $("view"), paint = view.getContext("2d", { alpha: false });

let hello = null; // what the server said first
let socket = null;
let stream = null; // the camera
let ended = ""; // why there is no reconnecting without the visitor
let tries = 0;
let number = 0, answered = 0, drawn = 0;
let recorder = null;
let splitAt = 0.5;
let heardAt = 0; // when the server answered last
let pending = null; // the style that was chosen and is not seen yet
const inside = new Map(); // sequence number -> { canvas, at }: frames that are on their way
let making = null; // the image that becomes a style
const images = []; // { file, preview, name }: images of the visitor that are styles
const spare = []; // canvases to use again

// What the figures come from; also read by tests. Times are those of performance.now().
const stats = { trips: [], drawnAt: [], server: [], style: -1, size: "" };
window.rtstyle = { stats };

// -- settings

const settings = () => ({
  style: Number(document.querySelector("#styles input:checked")?.value ?? 0),
  strength: Number($("strength").value),
  keep: $("keep").checked,
  split: $("split").checked,
  mirror: $("mirror").checked,
  mask: Number($("mask").value),
  lines: Number($("resolution").value),
});

function showStyles(start) {
  // By name: a server that was started again may have other styles.
  const before = document.querySelector("#styles input:checked")?.dataset.name;
  const chosen = hello.styles.findIndex((style) => style.name === before);
  const current = chosen < 0 ? start : chosen;
  $("styles").replaceChildren(...hello.styles.map((style, place) => styleTile(style.name, place, style.title, (tile) => choose(place, tile))));
  document.querySelectorAll("#styles input")[current].checked = true;
  making = null;
  const image = images.splice(0).find((each) => each.name === before); // another server does not know it
  if (image) add(image);
}

// -- an image of the visitor as a style

/** Send an image, not larger than styles are measured on; `styled` hears what became of it. */
async function add(image) {
  if (socket?.readyState !== WebSocket.OPEN) { toast("Start the camera first."); return; }
  if (making) { toast("One image after the other."); return; }
  making = image;
  toast("Making a style from your image …", 0);
  const drawn = await createImageBitmap(image.file).catch(() => null);
  if (!drawn) { making = null; toast("This file is no image that the browser can read."); return; }
  const scale = Math.min(1, LONGEST / Math.max(drawn.width, drawn.height));
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width: Math.max(1, drawn.width * scale), height: Math.max(1, drawn.height * scale) });
  const context = canvas.getContext("2d", { alpha: false });
  context.fillStyle = "white"; // what is transparent counts as paper
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(drawn, 0, 0, canvas.width, canvas.height);
  const jpeg = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.92));
  const head = new DataView(new ArrayBuffer(REQUEST_BYTES));
  head.setUint8(6, OWN_IMAGE);
  socket?.send(new Blob([head.buffer, jpeg]));
}

function styled({ place, name }) {
  if (!making) return;
  document.querySelector(`#styles input[value="${place}"]`)?.parentElement.remove();
  const image = Object.assign(making, { name });
  images.push(image);
  making = null;
  $("toast").hidden = true;
  const tile = styleTile(name, place, `after ${image.file.name}`, (own) => choose(place, own), image.preview);
  $("styles").append(tile);
  tile.querySelector("input").checked = true;
  choose(place, tile);
  tile.scrollIntoView({ block: "nearest", inline: "nearest" });
}

const offer = (file) => file && add({ file, preview: URL.createObjectURL(file) });
$("own").addEventListener("click", () => $("image").click());
$("image").addEventListener("change", () => { offer($("image").files[0]); $("image").value = ""; });
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  offer([...event.dataTransfer.files].find((file) => file.type.startsWith("image/")));
});

/** Before there is a connection: the styles to choose from. */
async function showLanding() {
  const answer = await fetch("/styles.json", { cache: "no-store" }).catch(() => null);
  if (!answer?.ok || hello) return;
  const { styles, start } = await answer.json();
  $("styles").replaceChildren(...styles.map((style, place) => styleTile(style.name, place, style.title, () => {})));
  document.querySelectorAll("#styles input")[start].checked = true;
}

function choose(place, tile) {
  document.querySelectorAll(".tile.loading").forEach((other) => other.classList.remove("loading"));
  pending = { place, tile };
  setTimeout(() => pending?.tile === tile && tile.classList.add("loading"), 150);
}

// -- words for the visitor

function cover(message, button) {
  $("notice").textContent = message;
  $("start").hidden = !button;
  if (button) $("start").textContent = button;
  $("cover").hidden = false;
}

let toastTimer = 0;
function toast(message, ms = 5000) {
  $("toast").textContent = message;
  $("toast").hidden = false;
  clearTimeout(toastTimer);
  if (ms) toastTimer = setTimeout(() => { $("toast").hidden = true; }, ms);
}

// -- camera

const TROUBLE = {
  NotFoundError: "No camera was found. Plug one in, then try again.",
  OverconstrainedError: "This camera is gone. Choose another one.",
  NotAllowedError: "The camera was refused. Allow it for this page (the camera sign beside the address), then try again.",
  NotReadableError: "The camera cannot be read. Another program may be using it.",
  AbortError: "The camera stopped while it was being opened. Try again.",
};

async function openCamera() {
  if (!navigator.mediaDevices?.getUserMedia) {
    throw new Error("Browsers give the camera to secure pages only: open this one by https, or on this machine itself.");
  }
  closeCamera();
  const lines = settings().lines, chosen = $("camera").value;
  const wish = { width: { ideal: lines === 720 ? 1280 : lines === 480 ? 848 : 640 }, height: { ideal: lines }, frameRate: { ideal: 30 } };
  if (chosen) wish.deviceId = { exact: chosen };
  else wish.facingMode = "user";
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: wish, audio: false });
  } catch (error) {
    // The camera that was chosen may be gone, or have another id since: any one is better than none.
    if (!chosen || !["OverconstrainedError", "NotFoundError"].includes(error.name)) throw error;
    delete wish.deviceId;
    stream = await navigator.mediaDevices.getUserMedia({ video: wish, audio: false });
    toast("That camera is gone; this is another one.");
  }
  const track = stream.getVideoTracks()[0];
  track.addEventListener("ended", () => stream?.getVideoTracks()[0] === track && stopWith("The camera has gone.", "Try again"));
  video.srcObject = stream;
  await video.play();
  await listCameras(track.getSettings().deviceId);
}

function closeCamera() {
  stream?.getTracks().forEach((track) => track.stop());
  stream = null;
  video.srcObject = null;
}

async function listCameras(current) {
  const cameras = (await navigator.mediaDevices.enumerateDevices()).filter((device) => device.kind === "videoinput");
  $("camera").replaceChildren(...cameras.map((camera, place) =>
    new Option(camera.label || `Camera ${place + 1}`, camera.deviceId, false, camera.deviceId === current)));
}

async function start() {
  ended = "";
  cover("Opening the camera …", "");
  try {
    await openCamera();
  } catch (error) {
    closeCamera();
    cover(TROUBLE[error.name] ?? error.message ?? String(error), "Try again");
    return;
  }
  connect();
}

function stopWith(message, button) {
  ended = message;
  closeCamera();
  stopRecording();
  socket?.close();
  cover(message, button);
}

// -- connection

function connect() {
  if (socket && socket.readyState <= WebSocket.OPEN) { cover("", ""); $("cover").hidden = true; return; }
  cover("Connecting …", "");
  const own = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/ws`);
  socket = own;
  own.binaryType = "arraybuffer";
  own.addEventListener("message", ({ data }) => {
    if (socket !== own) return;
    if (typeof data === "string") heard(JSON.parse(data));
    else answer(data);
  });
  own.addEventListener("close", () => {
    if (socket !== own) return;
    forget();
    if (ended || !stream || document.hidden) return;
    cover("The connection was lost. Trying again …", "");
    setTimeout(again, Math.min(1000 * 2 ** tries++, 15000));
  });
}

async function again() {
  if (!stream || ended) return;
  const answer = await fetch("/app.js", { cache: "no-store" }).catch(() => null); // null: there is no server yet
  if (answer && [401, 403].includes(answer.status)) {
    stopWith("The server was started again, with another token. Open the address that it prints now.", "");
  } else connect();
}

function heard(message) {
  if (message.type === "hello") {
    if (message.version !== VERSION) { stopWith("The server was renewed. Load this page again.", ""); return; }
    const first = hello === null;
    heardAt = performance.now();
    hello = message;
    if (first) {
      $("strength").value = Math.round(100 * message.start.strength);
      $("keep").checked = message.start.keep_colors;
      $("mask").value = message.start.mask;
      showStrength();
    }
    showStyles(message.start.style);
    $("figures").hidden = false;
    tries = 0;
    forget();
    for (const id of ["snapshot", "record"]) $(id).disabled = false;
    $("record").disabled = !window.MediaRecorder;
    $("cover").hidden = true;
  } else if (message.type === "style") {
    styled(message);
  } else if (message.type === "say") {
    if (message.message.startsWith("No style") || message.message.startsWith("Images of others")) making = null;
    toast(message.message, 8000);
  } else if (message.type === "bye" && message.reason !== "moved") { // who is moved connects again when it closes
    stopWith(message.message, message.reason === "bad" ? "" : "Try again");
  }
}

function forget() {
  for (const { canvas } of inside.values()) spare.push(canvas);
  inside.clear();
  number = answered = drawn = 0;
}

// -- a frame goes

/** The size of the hello that is nearest to the camera's shape, with so many lines on its short side. */
function chooseSize(width, height, lines) {
  const fitting = hello.sizes.filter(([w, h]) => Math.min(w, h) === lines);
  const distance = ([w, h]) => Math.abs(Math.log((w / h) / (width / height)));
  return fitting.reduce((best, size) => (distance(size) < distance(best) ? size : best));
}

async function send() {
  if (!hello || !stream || socket?.readyState !== WebSocket.OPEN || !video.videoWidth) return;
  const now = performance.now();
  for (const [key, { canvas, at }] of inside) {
    if (now - at > LOST_MS) { inside.delete(key); spare.push(canvas); }
  }
  if (inside.size >= hello.in_flight) return; // this frame is left out; the next one will be newer
  const { style, strength, keep, mirror, mask, lines } = settings();
  // A phone that is turned while it records: the file keeps its size, and the frame is cropped to it.
  const [width, height] = recorder ? [view.width, view.height] : chooseSize(video.videoWidth, video.videoHeight, lines);
  const canvas = spare.pop() ?? document.createElement("canvas");
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d", { alpha: false, willReadFrequently: true });
  const scale = Math.max(width / video.videoWidth, height / video.videoHeight);
  const [w, h] = [video.videoWidth * scale, video.videoHeight * scale];
  context.setTransform(mirror ? -1 : 1, 0, 0, 1, mirror ? width : 0, 0);
  context.drawImage(video, (width - w) / 2, (height - h) / 2, w, h);
  const own = ++number, to = socket;
  inside.set(own, { canvas, at: now });
  const jpeg = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", QUALITY));
  if (!inside.has(own) || to !== socket || to.readyState !== WebSocket.OPEN || own < answered) return;
  const head = new DataView(new ArrayBuffer(REQUEST_BYTES));
  head.setUint32(0, own, true);
  head.setUint8(4, style);
  head.setUint8(5, strength);
  head.setUint8(6, keep ? KEEP_COLORS : 0);
  head.setUint8(7, mask);
  to.send(new Blob([head.buffer, jpeg]));
}

// A hidden page sees no new frames of its video. While it records it sends one a second, and so keeps its place.
setInterval(() => document.hidden && recorder && send(), 1000);

function everyPicture() {
  const next = () => {
    send();
    if (video.requestVideoFrameCallback) video.requestVideoFrameCallback(next);
    else setTimeout(next, 33);
  };
  next();
}

// -- a frame comes

async function answer(data) {
  const head = new DataView(data), own = head.getUint32(0, true);
  const sent = inside.get(own);
  answered = own;
  heardAt = performance.now();
  for (const [key, { canvas }] of inside) {
    if (key <= own) { inside.delete(key); if (key !== own) spare.push(canvas); }
  }
  if (!sent) return; // too late, or of an earlier connection
  try {
    if (head.getUint8(6) & PREPARING) {
      draw(sent.canvas, sent.canvas);
      toast("Preparing the style for this size …", 1000);
      return;
    }
    const stylized = await createImageBitmap(new Blob([new Uint8Array(data, REPLY_BYTES)], { type: "image/jpeg" }));
    if (own > drawn) {
      if (stats.style !== head.getUint8(4)) beginFade();
      drawn = own;
      draw(stylized, sent.canvas);
      note(sent.at, head);
    }
    stylized.close();
  } finally {
    spare.push(sent.canvas);
  }
}

// A new style fades in over the last frame of the one before, as in the window.
const FADE_MS = 500;
const still = document.createElement("canvas"), calm = matchMedia("(prefers-reduced-motion: reduce)");
let fadeSince = -FADE_MS;

function beginFade() {
  if (calm.matches || !drawn) return;
  Object.assign(still, { width: view.width, height: view.height });
  still.getContext("2d", { alpha: false }).drawImage(view, 0, 0);
  fadeSince = performance.now();
}

function draw(stylized, source) {
  const { width, height } = source;
  if (view.width !== width || view.height !== height) Object.assign(view, { width, height });
  paint.drawImage(stylized, 0, 0, width, height);
  const left = 1 - (performance.now() - fadeSince) / FADE_MS;
  if (left > 0 && still.width === width && still.height === height) {
    paint.globalAlpha = left;
    paint.drawImage(still, 0, 0);
    paint.globalAlpha = 1;
  }
  if (settings().split) {
    const edge = Math.round(width * splitAt);
    if (edge) paint.drawImage(source, 0, 0, edge, height, 0, 0, edge, height);
    placeDivider();
  }
}

function note(at, head) {
  const now = performance.now(), keep = (list, value) => { list.push(value); if (list.length > 20000) list.splice(0, 10000); };
  keep(stats.trips, now - at);
  keep(stats.drawnAt, now);
  keep(stats.server, head.getUint32(8, true) / 1000);
  stats.style = head.getUint8(4);
  stats.size = `${view.width}x${view.height}`;
  if (pending && pending.place === stats.style) {
    pending.tile.classList.remove("loading");
    pending = null;
  }
}

setInterval(() => {
  const now = performance.now(), recent = stats.drawnAt.filter((at) => at > now - 2000).length;
  const trips = stats.trips.slice(-Math.max(recent, 1)).sort((a, b) => a - b);
  $("fps").textContent = recent ? (recent / 2).toFixed(0) : "–";
  $("trip").textContent = recent ? trips[trips.length >> 1].toFixed(0) : "–";
  if (socket?.readyState === WebSocket.OPEN && inside.size && now - heardAt > HUNG_MS) {
    toast("The server does not answer; the video stands still.", 1000);
  }
}, 500);

// -- split

function placeDivider() {
  const box = view.getBoundingClientRect(), stage = $("stage").getBoundingClientRect();
  const shown = Math.min(box.width, box.height * view.width / view.height); // object-fit: contain
  $("divider").style.left = `${box.left - stage.left + (box.width - shown) / 2 + shown * splitAt}px`;
  $("divider").setAttribute("aria-valuenow", Math.round(100 * splitAt));
}

function splitTo(share) {
  splitAt = Math.min(Math.max(share, 0), 1);
  placeDivider();
}

$("split").addEventListener("change", () => { $("divider").hidden = !$("split").checked; placeDivider(); });
$("stage").addEventListener("pointerdown", (event) => {
  if (!$("split").checked || !$("cover").hidden) return;
  $("stage").setPointerCapture(event.pointerId);
  dragSplit(event);
});
$("stage").addEventListener("pointermove", (event) => { if ($("stage").hasPointerCapture(event.pointerId)) dragSplit(event); });
function dragSplit(event) {
  const box = view.getBoundingClientRect(), shown = Math.min(box.width, box.height * view.width / view.height);
  splitTo((event.clientX - box.left - (box.width - shown) / 2) / shown);
}
$("divider").addEventListener("keydown", (event) => {
  const step = { ArrowLeft: -0.05, ArrowRight: 0.05 }[event.key];
  if (step) { splitTo(splitAt + step); event.preventDefault(); }
});
window.addEventListener("resize", () => $("split").checked && placeDivider());

// -- snapshot and recording, both in the browser

function save(blob, extension) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = `rtstyle-${new Date().toISOString().slice(0, 19).replaceAll(":", "-")}.${extension}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

const TIMER_S = 3;
let counting = 0;

async function snapshot() {
  if ($("timer").checked) {
    const own = ++counting;
    for (let left = TIMER_S; left; left--) {
      $("countdown").textContent = left;
      $("countdown").hidden = false;
      await new Promise((resolve) => setTimeout(resolve, 1000));
      if (own !== counting) return; // it was asked for again
    }
    $("countdown").hidden = true;
  }
  view.toBlob((blob) => save(blob, "png"), "image/png");
}

$("snapshot").addEventListener("click", snapshot);

let preparing = false; // between the click and the first frame: the visitor is asked for the microphone
async function record() {
  if (preparing) return;
  preparing = true;
  $("record").disabled = true;
  try {
    await beginRecording();
  } finally {
    preparing = false;
    $("record").disabled = false;
  }
}

async function beginRecording() {
  const type = ["video/mp4;codecs=avc1.42E01E,mp4a.40.2", "video/webm;codecs=vp9,opus", "video/webm;codecs=vp8,opus", "video/webm"]
    .find((candidate) => MediaRecorder.isTypeSupported(candidate));
  const output = view.captureStream(30);
  if ($("sound").checked) {
    try {
      const microphone = await navigator.mediaDevices.getUserMedia({ audio: true });
      microphone.getAudioTracks().forEach((track) => output.addTrack(track));
    } catch (error) {
      toast(error.name === "NotFoundError" ? "No microphone was found; recording without audio." : "The microphone was refused; recording without audio.");
    }
  }
  const parts = [], begun = performance.now();
  recorder = new MediaRecorder(output, { mimeType: type, videoBitsPerSecond: 8e6 });
  recorder.addEventListener("dataavailable", ({ data }) => data.size && parts.push(data));
  const ticking = setInterval(() => {
    const seconds = Math.floor((performance.now() - begun) / 1000);
    $("clock").textContent = `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
  }, 500);
  recorder.addEventListener("stop", async () => {
    clearInterval(ticking);
    output.getTracks().forEach((track) => track.stop());
    const kind = recorder.mimeType;
    recorder = null;
    showRecording(false);
    save(await finished(new Blob(parts, { type: kind })), kind.startsWith("video/mp4") ? "mp4" : "webm");
  });
  recorder.start(1000);
  $("clock").textContent = "0:00";
  showRecording(true);
}

/** A WebM gets a duration and an index; a recording that is none, or too large for memory, stays as it came. */
async function finished(blob) {
  if (!blob.type.startsWith("video/webm") || blob.size > INDEXED_BYTES) return blob;
  try {
    return new Blob(seekable(await blob.arrayBuffer()), { type: blob.type });
  } catch {
    return blob;
  }
}

function stopRecording() {
  if (recorder?.state === "recording") recorder.stop();
}

function showRecording(on) {
  $("recording").hidden = !on;
  $("record").classList.toggle("on", on);
  $("record").textContent = on ? "Stop" : "Record";
  // One file has one size: camera and resolution stay meanwhile.
  for (const id of ["sound", "camera", "resolution"]) $(id).disabled = on;
}

navigator.mediaDevices?.addEventListener("devicechange", () => stream && listCameras(stream.getVideoTracks()[0].getSettings().deviceId));
$("record").addEventListener("click", () => (recorder ? stopRecording() : record()));

// -- the rest

const showStrength = () => { $("strength-value").textContent = (settings().strength / 100).toFixed(2); };
$("strength").addEventListener("input", showStrength);
$("start").addEventListener("click", start);
for (const id of ["camera", "resolution"]) $(id).addEventListener("change", () => stream && start());
document.addEventListener("visibilitychange", () => {
  // A hidden page gets no frames: it gives its place to others meanwhile, and takes one again when it is seen.
  if (document.hidden) { if (!recorder) socket?.close(); return; }
  if (recorder) toast("While this page was hidden, the recording got one frame a second.");
  if (stream && !ended) connect();
});
fullScreen($("full"), $("stage"));
shortcuts({
  k: () => $("keep").click(),
  v: () => $("split").click(),
  m: () => $("mirror").click(),
  a: () => { $("mask").selectedIndex = ($("mask").selectedIndex + 1) % $("mask").length; },
  s: () => $("snapshot").click(),
  r: () => $("record").click(),
  f: () => $("full").click(),
  "+": () => nudge(10),
  "-": () => nudge(-10),
  style: (place) => document.querySelectorAll("#styles input")[place]?.click(),
});

function nudge(by) {
  $("strength").value = Number($("strength").value) + by;
  showStrength();
  toast(`Strength ${$("strength-value").textContent}`, 1000);
}

showLanding();
everyPicture();
